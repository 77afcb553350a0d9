# Writes the bytes of FROM into the C++ header TO as the array NAME: cmake -DFROM=... -DTO=... -DNAME=... -P embed.cmake
file(READ ${FROM} bytes HEX)
string(REGEX REPLACE "(..)" "0x\\1," bytes "${bytes}")
string(REGEX REPLACE "(0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,)" "\\1\n" bytes "${bytes}")
file(WRITE ${TO} "#pragma once\n\ninline constexpr unsigned char ${NAME}[] = {\n${bytes}};\n")
