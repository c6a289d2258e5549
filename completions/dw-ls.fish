complete -c dw-ls -l feed -d 'A feed, as by position; may be repeated' -r
complete -c dw-ls -l layout -d 'The record\'s layout for another language: json, c, rust, numpy or arrow' -r
complete -c dw-ls -l tz -d 'Zone of the times shown' -r
complete -c dw-ls -s b -l base-path -d 'The store\'s directory [default: $DEEPWATER_BASE, else ~/.local/share/deepwater]' -r -f -a "(__fish_complete_directories)"
complete -c dw-ls -l color -d 'When to colour: auto, always or never [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set or TERM is dumb'
always\t'Even into a pipe'
never\t'Not at all'"
complete -c dw-ls -s l -l long -d 'Layout and policy of each feed'
complete -c dw-ls -l chunks -d 'The chunks of each feed'
complete -c dw-ls -l sessions -d 'The sessions of each feed, with the reason each closed, and holes in the seqs'
complete -c dw-ls -l gaps -d 'When nothing was being recorded, and why; what was lost, collected, rejected'
complete -c dw-ls -l watch -d 'A live table on the terminal: rate, lag, last arrival, records; q leaves it'
complete -c dw-ls -l names -d 'Bare names, a line each'
complete -c dw-ls -l json -d 'JSON, an object a line'
complete -c dw-ls -s q -l quiet -d 'Errors only'
complete -c dw-ls -s v -l verbose -d 'Say more: resolved times, counts'
complete -c dw-ls -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dw-ls -s V -l version -d 'Print version'

# Feeds, by name.
complete -c dw-ls -f -a "(dw-ls --names 2>/dev/null)"
complete -c dw-ls -l feed -r -f -a "(dw-ls --names 2>/dev/null)"
