complete -c dw-ls -l feed -d 'Name of a feed, instead of a positional argument; may be repeated' -r
complete -c dw-ls -l layout -d 'Print the record\'s layout for another language: json, c, rust, numpy or arrow' -r
complete -c dw-ls -l tz -d 'Time zone of the printed times' -r
complete -c dw-ls -s b -l base-path -d 'Directory of the store [default: $DEEPWATER_BASE, else ~/.local/share/deepwater]' -r -f -a "(__fish_complete_directories)"
complete -c dw-ls -l color -d 'When to colour: auto, always or never [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set or TERM is dumb'
always\t'Always, even into a pipe'
never\t'Never'"
complete -c dw-ls -s l -l long -d 'Print the layout and policy of each feed'
complete -c dw-ls -l chunks -d 'Print the chunks of each feed'
complete -c dw-ls -l sessions -d 'Print the sessions of each feed, why each ended, and ranges of missing seqs'
complete -c dw-ls -l gaps -d 'Print when nothing was being recorded and why, and what was lost, collected or rejected'
complete -c dw-ls -l watch -d 'Show a live table on the terminal: rate, lag, last arrival, records; q quits'
complete -c dw-ls -l names -d 'Print only the names, one per line'
complete -c dw-ls -l json -d 'Print JSON, one object per line'
complete -c dw-ls -s q -l quiet -d 'Print errors only'
complete -c dw-ls -s v -l verbose -d 'Print more, such as resolved times and counts'
complete -c dw-ls -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dw-ls -s V -l version -d 'Print version'

# Feeds, by name.
complete -c dw-ls -f -a "(dw-ls --names 2>/dev/null)"
complete -c dw-ls -l feed -r -f -a "(dw-ls --names 2>/dev/null)"
