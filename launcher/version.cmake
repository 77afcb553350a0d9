# Writes HEADER, which defines UNIPOOL_VERSION as the commit of the tree in SOURCE, if it changed:
# cmake -DSOURCE=... -DHEADER=... -P version.cmake
execute_process(COMMAND git -C ${SOURCE} describe --always --abbrev=12 --dirty=+ --exclude=*
                OUTPUT_VARIABLE version OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(NOT version)
  set(version unknown)
endif()
set(text "#define UNIPOOL_VERSION \"${version}\"\n")
set(old "")
if(EXISTS ${HEADER})
  file(READ ${HEADER} old)
endif()
if(NOT old STREQUAL text)
  file(WRITE ${HEADER} "${text}")
endif()
