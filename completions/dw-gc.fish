complete -c dw-gc -l feed -d 'A feed, as by position; may be repeated' -r
complete -c dw-gc -l min-free -d 'Collect until so much of the disk is free' -r
complete -c dw-gc -l interval -d 'With --install-cron: how often [default: 15]' -r
complete -c dw-gc -s b -l base-path -d 'The store\'s directory [default: $DEEPWATER_BASE, else ~/.local/share/deepwater]' -r -f -a "(__fish_complete_directories)"
complete -c dw-gc -l color -d 'When to colour: auto, always or never [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set or TERM is dumb'
always\t'Even into a pipe'
never\t'Not at all'"
complete -c dw-gc -l dry-run -d 'Print what would go, and change nothing'
complete -c dw-gc -l json -d 'JSON, an object a line'
complete -c dw-gc -l trust-clock -d 'The clock is right, whatever it seems'
complete -c dw-gc -l install-cron -d 'Have cron run dw-gc on this store'
complete -c dw-gc -l uninstall-cron -d 'Have cron leave this store alone'
complete -c dw-gc -s q -l quiet -d 'Errors only'
complete -c dw-gc -s v -l verbose -d 'Say more: resolved times, counts'
complete -c dw-gc -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dw-gc -s V -l version -d 'Print version'

# Feeds, by name.
complete -c dw-gc -f -a "(dw-ls --names 2>/dev/null)"
complete -c dw-gc -l feed -r -f -a "(dw-ls --names 2>/dev/null)"
