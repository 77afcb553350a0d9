# Completion of unipool's commands, flags and settings for bash. The program itself says what may follow, so this file never
# lags behind. Source it (in ~/.bashrc), or `cmake --install build` puts it where bash-completion finds it.
_unipool() {
  local before=${COMP_LINE:0:COMP_POINT} program=${COMP_WORDS[0]} command="" word current candidates flag
  current=${before##* }
  flag=${before% *}
  flag=${flag##* }
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    [[ $word == -* ]] || { command=$word && break; }
  done
  if [[ $command == help ]]; then
    candidates=$("$program" help words 2>/dev/null | grep -v -e '^-' -e '^help$')
  elif [[ $command ]]; then
    candidates=$("$program" help words "$command" 2>/dev/null)
    # A block of settings before its fields, which are many.
    [[ $current == *.* || $current == -* || $current == *=* ]] ||
      candidates=$(sed 's/^\([a-z_]*\.\).*/\1/' <<<"$candidates" | sort -u)
  else
    candidates=$("$program" help words 2>/dev/null)
  fi
  # The values of a flag whose value is a word of its own.
  if [[ $flag == --* && $flag != *=* ]] && grep -q -e "^$flag=." <<<"$candidates"; then
    mapfile -t COMPREPLY < <(compgen -W "$(sed -n "s/^$flag=//p" <<<"$candidates")" -- "$current")
    return
  fi
  # The values of a flag or an enum once its name is there.
  [[ $current == *=* ]] || candidates=$(grep -v '=.' <<<"$candidates")
  mapfile -t COMPREPLY < <(compgen -W "$candidates" -- "$current")
  local is_path=$current
  [[ $current != *=* ]] || is_path=${current#*=}
  if [[ $command && $command != help ]] && { [[ $current != *=* ]] || ((${#COMPREPLY[@]} == 0)); }; then
    local path
    while read -r path; do
      [[ $current == *=* ]] && path=${current%%=*}=$path
      COMPREPLY+=("$path")
    done < <(compgen -f -- "$is_path")
  fi
  # Bash takes what follows = for a word of its own.
  [[ $current != *=* || $COMP_WORDBREAKS != *=* ]] || COMPREPLY=("${COMPREPLY[@]#"${current%%=*}="}")
  [[ ${#COMPREPLY[@]} != 1 || ${COMPREPLY[0]} != *[=.] ]] || compopt -o nospace 2>/dev/null || true
}
complete -o filenames -F _unipool unipool
