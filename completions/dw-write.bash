_dw__write() {
    local i cur prev opts cmd
    COMPREPLY=()
    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
        cur="$2"
    else
        cur="${COMP_WORDS[COMP_CWORD]}"
    fi
    prev="$3"
    cmd=""
    opts=""

    for i in "${COMP_WORDS[@]:0:COMP_CWORD}"
    do
        case "${cmd},${i}" in
            ",$1")
                cmd="dw__write"
                ;;
            *)
                ;;
        esac
    done

    case "${cmd}" in
        dw__write)
            opts="-b -q -v -h -V --feed --format --header --columns --map --explode --where --strict --ts-unit --ts-format --ts-base --ts-truncate --tz --stamp --on-bad --rejects --final-line --mark-every --mark-when --sync --ack --stats --create --base-path --quiet --verbose --color --help --version"
            if [[ ${cur} == -* || ${COMP_CWORD} -eq 1 ]] ; then
                COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
                return 0
            fi
            case "${prev}" in
                --feed)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --format)
                    COMPREPLY=($(compgen -W "auto csv tsv jsonl raw" -- "${cur}"))
                    return 0
                    ;;
                --header)
                    COMPREPLY=($(compgen -W "yes no" -- "${cur}"))
                    return 0
                    ;;
                --columns)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --map)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --explode)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --where)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --ts-unit)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --ts-format)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --ts-base)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --tz)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --stamp)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --on-bad)
                    COMPREPLY=($(compgen -W "skip stop" -- "${cur}"))
                    return 0
                    ;;
                --rejects)
                    local oldifs
                    if [ -n "${IFS+x}" ]; then
                        oldifs="$IFS"
                    fi
                    IFS=$'\n'
                    COMPREPLY=($(compgen -f "${cur}"))
                    if [ -n "${oldifs+x}" ]; then
                        IFS="$oldifs"
                    fi
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o filenames
                    fi
                    return 0
                    ;;
                --final-line)
                    COMPREPLY=($(compgen -W "accept reject" -- "${cur}"))
                    return 0
                    ;;
                --mark-every)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --mark-when)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --sync)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --stats)
                    COMPREPLY=($(compgen -f "${cur}"))
                    return 0
                    ;;
                --create)
                    local oldifs
                    if [ -n "${IFS+x}" ]; then
                        oldifs="$IFS"
                    fi
                    IFS=$'\n'
                    COMPREPLY=($(compgen -f "${cur}"))
                    if [ -n "${oldifs+x}" ]; then
                        IFS="$oldifs"
                    fi
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o filenames
                    fi
                    return 0
                    ;;
                --base-path)
                    COMPREPLY=()
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o plusdirs
                    fi
                    return 0
                    ;;
                -b)
                    COMPREPLY=()
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o plusdirs
                    fi
                    return 0
                    ;;
                --color)
                    COMPREPLY=($(compgen -W "auto always never" -- "${cur}"))
                    return 0
                    ;;
                *)
                    COMPREPLY=()
                    ;;
            esac
            COMPREPLY=( $(compgen -W "${opts}" -- "${cur}") )
            return 0
            ;;
    esac
}

# Feeds, wherever a word is neither an option nor the value of one.
_dw__write__feeds() {
    _dw__write "$@"
    case "$2" in -*) return 0 ;; esac
    case "$3" in
        --format|--header|--columns|--map|--explode|--where|--ts-unit|--ts-format|--ts-base|--tz|--stamp|--on-bad|--rejects|--final-line|--mark-every|--mark-when|--sync|--stats|--create|--base-path|-b|--color) return 0 ;;
    esac
    COMPREPLY=( $(compgen -W "$(dw-ls --names 2>/dev/null)" -- "$2") $(compgen -f -- "$2") )
}

if [[ "${BASH_VERSINFO[0]}" -eq 4 && "${BASH_VERSINFO[1]}" -ge 4 || "${BASH_VERSINFO[0]}" -gt 4 ]]; then
    complete -F _dw__write__feeds -o nosort -o bashdefault -o default dw-write
else
    complete -F _dw__write__feeds -o bashdefault -o default dw-write
fi
