complete -c dw-mkfeed -l feed -d 'The feed, as by position; all positions are then fields' -r
complete -c dw-mkfeed -l spec -d 'Read JSON specs from FILE, or from stdin (-): one, a list, or {"feeds": [...]}' -r -F
complete -c dw-mkfeed -l ts -d 'The time column [default: the first timestamp field]' -r
complete -c dw-mkfeed -l time-unit -d 'The unit of all times: us or ns [default: us]' -r
complete -c dw-mkfeed -l chunk-size -d 'Size of a chunk\'s data, 64KiB to 16GiB [default: 64MiB]' -r
complete -c dw-mkfeed -l chunk-age -d 'Age at which a chunk ends [default: a day, or an eighth of the retention if shorter]' -r
complete -c dw-mkfeed -l retention -d 'How long records are kept after they arrived: a duration, or forever [default: forever]' -r
complete -c dw-mkfeed -l max-size -d 'How much is kept, indexes counted: a size, or none [default: none]' -r
complete -c dw-mkfeed -l ring -d 'A ring in shared memory and nothing on disk: the newest SIZE, 64KiB to 1TiB [default: 16MiB]' -r
complete -c dw-mkfeed -l stage -d 'Where chunks are born: disk, or shm (shared memory, copied to disk in the background)' -r
complete -c dw-mkfeed -l live-window -d 'How long a chunk of a shm feed stays in memory once it is on disk [default: 0s]' -r
complete -c dw-mkfeed -l sync -d 'When records become durable: every DUR, none (the kernel\'s time), or batch [default: 1s]' -r
complete -c dw-mkfeed -l order -d 'A record older than one before it: accept, reject or clamp [default: accept]' -r
complete -c dw-mkfeed -l live -d 'Whether dw-health expects it to be written all the time: yes or no [default: yes]' -r -f -a "yes\t'Yes'
no\t'No'"
complete -c dw-mkfeed -l mode -d 'Mode of the feed\'s files, in octal [default: 0640]' -r
complete -c dw-mkfeed -s b -l base-path -d 'The store\'s directory [default: $DEEPWATER_BASE, else ~/.local/share/deepwater]' -r -f -a "(__fish_complete_directories)"
complete -c dw-mkfeed -l color -d 'When to colour: auto, always or never [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set or TERM is dumb'
always\t'Even into a pipe'
never\t'Not at all'"
complete -c dw-mkfeed -l infer -d 'Propose the fields from a sample on stdin: CSV or TSV with a header, or JSON lines'
complete -c dw-mkfeed -l update -d 'Change the policy of a feed that exists'
complete -c dw-mkfeed -l dry-run -d 'Make nothing; print the specs'
complete -c dw-mkfeed -l delete -d 'Delete the feeds named and all their records'
complete -c dw-mkfeed -l yes -d 'Delete without asking'
complete -c dw-mkfeed -l packed -d 'No alignment, no padding between fields'
complete -c dw-mkfeed -s q -l quiet -d 'Errors only'
complete -c dw-mkfeed -s v -l verbose -d 'Say more: resolved times, counts'
complete -c dw-mkfeed -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dw-mkfeed -s V -l version -d 'Print version'

# Feeds, by name.
complete -c dw-mkfeed -f -a "(dw-ls --names 2>/dev/null)"
complete -c dw-mkfeed -l feed -r -f -a "(dw-ls --names 2>/dev/null)"
