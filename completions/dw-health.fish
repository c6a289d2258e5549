complete -c dw-health -l feed -d 'Name of a feed, instead of a positional argument; may be repeated' -r
complete -c dw-health -l max-age -d 'How long ago the last record may have arrived, for all feeds or for one; may be repeated; implies --check-feeds [default: 5m]' -r
complete -c dw-health -l max-age-seconds -d 'The same for all feeds, in seconds' -r
complete -c dw-health -l min-free -d 'Space that must be free' -r
complete -c dw-health -s b -l base-path -d 'Directory of the store [default: $DEEPWATER_BASE, else ~/.local/share/deepwater]' -r -f -a "(__fish_complete_directories)"
complete -c dw-health -l color -d 'When to colour: auto, always or never [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set or TERM is dumb'
always\t'Always, even into a pipe'
never\t'Never'"
complete -c dw-health -l check-feeds -d 'Also check that records keep arriving'
complete -c dw-health -l json -d 'Print JSON, one object per line'
complete -c dw-health -l prometheus -d 'Print metrics in Prometheus\'s text format'
complete -c dw-health -s q -l quiet -d 'Print errors only'
complete -c dw-health -s v -l verbose -d 'Print more, such as resolved times and counts'
complete -c dw-health -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dw-health -s V -l version -d 'Print version'

# Feeds, by name.
complete -c dw-health -f -a "(dw-ls --names 2>/dev/null)"
complete -c dw-health -l feed -r -f -a "(dw-ls --names 2>/dev/null)"
