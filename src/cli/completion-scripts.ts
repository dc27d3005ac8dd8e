/** What makes a shell ask this program at each TAB. */

/** For ~/.bashrc, or as a file in bash-completion's directory. */
export const BASH = String.raw`# bash completion for restic-gateway
_restic_gateway() {
  local program=\${COMP_WORDS[0]} cur=\${COMP_WORDS[COMP_CWORD]} found=()
  [[ $program == '~/'* ]] && program=$HOME/\${program:2}
  [[ $cur == [=:] ]] && cur=
  COMPREPLY=()
  mapfile -t found < <("$program" complete bash -- "\${COMP_LINE:0:COMP_POINT}" "$COMP_WORDBREAKS" </dev/null 2>/dev/null)
  case \${found[0]-} in
    words)
      COMPREPLY=("\${found[@]:1}")
      [[ \${#COMPREPLY[@]} == 1 && \${COMPREPLY[0]} == *= ]] && compopt -o nospace
      ;;
    files)
      compopt -o filenames
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      ;;
    directories)
      compopt -o filenames
      mapfile -t COMPREPLY < <(compgen -d -- "$cur")
      ;;
  esac
} 2>/dev/null
complete -F _restic_gateway restic-gateway
`.replaceAll('\\${', '${');

/** For ~/.zshrc, or as a file \`_restic-gateway\` in fpath. */
export const ZSH = String.raw`#compdef restic-gateway
# zsh completion for restic-gateway
_restic-gateway() {
  local -a found plain described
  local line word program=\${(Q)words[1]}
  program=\${program/#\~\//$HOME/}
  found=("\${(@f)$("$program" complete zsh -- "\${(@Q)words[2,CURRENT-1]}" "\${(Q)PREFIX}" </dev/null 2>/dev/null)}")
  case \${found[1]} in
    words)
      for line in "\${(@)found[2,-1]}"; do
        word=\${line%%$'\t'*}
        if [[ $line == *$'\t'* ]]; then described+=("\${word//:/\\:}:\${line#*$'\t'}"); else plain+=("$word"); fi
      done
      (( \${#described} )) && _describe -t words restic-gateway described
      (( \${#plain} )) && compadd -a plain
      ;;
    files) _files ;;
    directories) _files -/ ;;
  esac
  return 0
}
if [[ \${funcstack[1]-} == _restic-gateway ]]; then
  _restic-gateway "$@"
else
  # Sourced: by a .zshrc that has not set up completion, too. -i leaves out what others may write to, without asking.
  (( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i -D; }
  compdef _restic-gateway restic-gateway
fi
`.replaceAll('\\${', '${');

/** For ~/.config/fish/completions/restic-gateway.fish. */
export const FISH = String.raw`# fish completion for restic-gateway
function __restic_gateway_complete
  set -l words (commandline -opc)
  set -l current (commandline -ct)
  set -l found (command $words[1] complete fish -- $words[2..-1] "$current" </dev/null 2>/dev/null)
  switch "$found[1]"
    case words
      test (count $found) -gt 1; and printf '%s\n' $found[2..-1]
    case files
      __fish_complete_path "$current"
    case directories
      __fish_complete_directories "$current" ''
  end
  return 0
end
complete -c restic-gateway -f -a '(__restic_gateway_complete)'
`;
