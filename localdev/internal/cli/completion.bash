# Completion of tidemark in bash: source <(tidemark completion bash)
_tidemark() {
  local cur=${COMP_WORDS[COMP_CWORD]} IFS=$'\n' out
  [[ $cur == = ]] && cur=
  out=$("${COMP_WORDS[0]}" __complete bash "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null) || return
  case $out in
  :files)
    compopt -o filenames 2>/dev/null
    COMPREPLY=($(compgen -f -- "$cur"))
    ;;
  :dirs)
    compopt -o filenames 2>/dev/null
    COMPREPLY=($(compgen -d -- "$cur"))
    ;;
  *) COMPREPLY=($out) ;;
  esac
}
complete -F _tidemark tidemark
