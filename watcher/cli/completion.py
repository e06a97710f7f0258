"""`ckptwatch completion`: shell completion of verbs, flags and their values.

The scripts speak click's protocol. click's own ones lose a value after `--flag=`; its zsh script needs compinit before,
and its fish script cuts a description at the first comma.
"""

from __future__ import annotations

import os

import click

from watcher.cli.options import examples
from watcher.errors import UsageError

_BASH = r"""_ckptwatch_completion() {
    local IFS=$'\n' word type value words=() count=$COMP_CWORD
    for word in "${!COMP_WORDS[@]}"; do  # bash gives --flag=value as three words
        if [[ ${COMP_WORDS[word]} != = ]]; then words+=("${COMP_WORDS[word]}")
        elif (( word < COMP_CWORD )); then (( count-- ))
        else words+=('')
        fi
    done
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done < <(env COMP_WORDS="${words[*]}" COMP_CWORD=$count _CKPTWATCH_COMPLETE=bash_complete "$1")
}

complete -o nosort -F _ckptwatch_completion ckptwatch
"""

_ZSH = r"""#compdef ckptwatch

_ckptwatch_completion() {
    local -a program response plain described
    local type key about line="${words[*]}"
    program=(${~words[1]})
    (( $+commands[$program] )) || [[ -x $program ]] || return 1
    response=("${(@f)$(env COMP_WORDS="$line" COMP_CWORD=$((CURRENT-1)) _CKPTWATCH_COMPLETE=zsh_complete $program)}")
    [[ $PREFIX == --*=* ]] && compset -P 1 '*='  # --flag=value: the rest is of the value
    for type key about in ${response}; do
        case $type in
            (dir) _path_files -/ ;;
            (file) _path_files -f ;;
            (plain) if [[ $about == _ ]]; then plain+=("$key"); else described+=("$key:$about"); fi ;;
        esac
    done
    if (( $#described )); then _describe -V ckptwatch described; fi
    if (( $#plain )); then compadd -V ckptwatch -a plain; fi
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _ckptwatch_completion "$@"
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
    compdef _ckptwatch_completion ckptwatch
fi
"""

_FISH = r"""function _ckptwatch_completion
    set -l token (commandline -ct)
    set -l flag (string match -r -- '^--[^=]+=' "$token")
    set -l program (string replace -r -- '^~/' "$HOME/" (commandline -opc)[1])
    for line in (env _CKPTWATCH_COMPLETE=fish_complete COMP_WORDS=(commandline -cp) COMP_CWORD="$token" $program)
        set -l item (string split -m 1 , -- $line)
        if test $item[1] = plain
            set -e item[1]
        else  # paths; fish expands no ~ in a command's own completions
            set item (__fish_complete_path (string replace -r -- '^~/' "$HOME/" "$item[2]"))
            string match -q -- '~/*' "$token"; and set item (string replace -- "$HOME/" '~/' $item)
        end
        for value in $item
            echo "$flag$value"
        end
    end
end

complete --no-files --command ckptwatch --arguments "(_ckptwatch_completion)"
"""
_SCRIPTS = {"bash": _BASH, "fish": _FISH, "zsh": _ZSH}


@click.command(
    "completion",
    epilog=examples(
        'eval "$(ckptwatch completion bash)"     # in ~/.bashrc',
        'eval "$(ckptwatch completion zsh)"      # in ~/.zshrc',
        "ckptwatch completion fish | source      # in ~/.config/fish/config.fish",
    ),
)
@click.argument("shell", type=click.Choice(list(_SCRIPTS)), required=False)
def command(shell: str | None) -> None:
    """Print the completion script for a shell.

    The default is the shell in $SHELL.
    """
    name = shell or os.path.basename(os.environ.get("SHELL", ""))
    if name not in _SCRIPTS:
        raise UsageError(f"no completion for the shell {name!r}", hint="ckptwatch completion bash|zsh|fish")
    click.echo(_SCRIPTS[name], nl=False)
