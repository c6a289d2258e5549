complete -c dw-repair -l feed -d 'A feed, as by position; may be repeated' -r
complete -c dw-repair -s b -l base-path -d 'The store\'s directory [default: $DEEPWATER_BASE, else ~/.local/share/deepwater]' -r -f -a "(__fish_complete_directories)"
complete -c dw-repair -l color -d 'When to colour: auto, always or never [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set or TERM is dumb'
always\t'Even into a pipe'
never\t'Not at all'"
complete -c dw-repair -s a -l all -d 'All feeds of the store'
complete -c dw-repair -l dry-run -d 'Only say what is damaged, and what would be done'
complete -c dw-repair -l json -d 'JSON, an object a line'
complete -c dw-repair -l rebuild-registry -d 'Make the manifest and the list of feeds again from the feeds\' folders'
complete -c dw-repair -l force-lost -d 'Give up chunks that were staged in shared memory, where that is gone for good'
complete -c dw-repair -s q -l quiet -d 'Errors only'
complete -c dw-repair -s v -l verbose -d 'Say more: resolved times, counts'
complete -c dw-repair -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dw-repair -s V -l version -d 'Print version'

# Feeds, by name.
complete -c dw-repair -f -a "(dw-ls --names 2>/dev/null)"
complete -c dw-repair -l feed -r -f -a "(dw-ls --names 2>/dev/null)"
