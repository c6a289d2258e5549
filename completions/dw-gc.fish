complete -c dw-gc -l feed -d 'Name of a feed, instead of a positional argument; may be repeated' -r
complete -c dw-gc -l min-free -d 'Also remove chunks until this much disk space is free' -r
complete -c dw-gc -l interval -d 'With --install-cron, how often to run [default: 15]' -r
complete -c dw-gc -s b -l base-path -d 'Directory of the store [default: $DEEPWATER_BASE, else ~/.local/share/deepwater]' -r -f -a "(__fish_complete_directories)"
complete -c dw-gc -l color -d 'When to colour: auto, always or never [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set or TERM is dumb'
always\t'Always, even into a pipe'
never\t'Never'"
complete -c dw-gc -l dry-run -d 'Print what would be removed; change nothing'
complete -c dw-gc -l json -d 'Print JSON, one object per line'
complete -c dw-gc -l trust-clock -d 'Trust the clock, even if it appears to have jumped'
complete -c dw-gc -l install-cron -d 'Have cron run dw-gc on this store'
complete -c dw-gc -l uninstall-cron -d 'Remove the cron line of this store'
complete -c dw-gc -s q -l quiet -d 'Print errors only'
complete -c dw-gc -s v -l verbose -d 'Print more, such as resolved times and counts'
complete -c dw-gc -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dw-gc -s V -l version -d 'Print version'

# Feeds, by name.
complete -c dw-gc -f -a "(dw-ls --names 2>/dev/null)"
complete -c dw-gc -l feed -r -f -a "(dw-ls --names 2>/dev/null)"
