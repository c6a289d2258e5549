complete -c dw-repair -l feed -d 'Name of a feed, instead of a positional argument; may be repeated' -r
complete -c dw-repair -s b -l base-path -d 'Directory of the store [default: $DEEPWATER_BASE, else ~/.local/share/deepwater]' -r -f -a "(__fish_complete_directories)"
complete -c dw-repair -l color -d 'When to colour: auto, always or never [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set or TERM is dumb'
always\t'Always, even into a pipe'
never\t'Never'"
complete -c dw-repair -s a -l all -d 'Check every feed of the store'
complete -c dw-repair -l dry-run -d 'Print what is damaged and what would be done; change nothing'
complete -c dw-repair -l json -d 'Print JSON, one object per line'
complete -c dw-repair -l rebuild-registry -d 'Rebuild the manifest and the list of feeds from the feeds\' directories'
complete -c dw-repair -l force-lost -d 'Give up chunks that were staged in shared memory, if that memory is gone for good'
complete -c dw-repair -s q -l quiet -d 'Print errors only'
complete -c dw-repair -s v -l verbose -d 'Print more, such as resolved times and counts'
complete -c dw-repair -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dw-repair -s V -l version -d 'Print version'

# Feeds, by name.
complete -c dw-repair -f -a "(dw-ls --names 2>/dev/null)"
complete -c dw-repair -l feed -r -f -a "(dw-ls --names 2>/dev/null)"
