complete -c dw-health -l feed -d 'A feed, as by position; may be repeated' -r
complete -c dw-health -l max-age -d 'How long ago the last record may have arrived, for all feeds or for one; may be repeated; implies --check-feeds [default: 5m]' -r
complete -c dw-health -l max-age-seconds -d 'The same for all feeds, in seconds' -r
complete -c dw-health -l min-free -d 'Room that must be free' -r
complete -c dw-health -s b -l base-path -d 'The store\'s directory [default: $DEEPWATER_BASE, else ~/.local/share/deepwater]' -r -f -a "(__fish_complete_directories)"
complete -c dw-health -l color -d 'When to colour: auto, always or never [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set or TERM is dumb'
always\t'Even into a pipe'
never\t'Not at all'"
complete -c dw-health -l check-feeds -d 'Hold feeds to freshness too'
complete -c dw-health -l json -d 'JSON, an object a line'
complete -c dw-health -l prometheus -d 'Metrics in Prometheus\'s text format'
complete -c dw-health -s q -l quiet -d 'Errors only'
complete -c dw-health -s v -l verbose -d 'Say more: resolved times, counts'
complete -c dw-health -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dw-health -s V -l version -d 'Print version'

# Feeds, by name.
complete -c dw-health -f -a "(dw-ls --names 2>/dev/null)"
complete -c dw-health -l feed -r -f -a "(dw-ls --names 2>/dev/null)"
