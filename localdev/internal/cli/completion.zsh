#compdef tidemark
# Completion of tidemark in zsh: source <(tidemark completion zsh)
_tidemark() {
  local -a found
  found=("${(@f)$("${words[1]}" __complete zsh "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  case ${found[1]} in
  :files)
    [[ $PREFIX == --*=* ]] && compset -P '*='
    _files
    ;;
  :dirs)
    [[ $PREFIX == --*=* ]] && compset -P '*='
    _files -/
    ;;
  '') return 1 ;;
  *) _describe tidemark found ;;
  esac
}
if [[ ${funcstack[1]} == _tidemark ]]; then
  _tidemark "$@"
else
  compdef _tidemark tidemark
fi
