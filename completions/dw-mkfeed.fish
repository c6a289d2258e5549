complete -c dw-mkfeed -l feed -d 'Name of the feed; all positional arguments are then fields' -r
complete -c dw-mkfeed -l spec -d 'Read JSON specs from FILE, or from stdin (-): one, a list, or {"feeds": [...]}' -r -F
complete -c dw-mkfeed -l ts -d 'The time column [default: the first timestamp field]' -r
complete -c dw-mkfeed -l time-unit -d 'The unit of all times: us or ns [default: us]' -r
complete -c dw-mkfeed -l chunk-size -d 'Size of a chunk\'s data, from 64KiB to 16GiB [default: 64MiB]' -r
complete -c dw-mkfeed -l chunk-age -d 'Age at which a new chunk begins [default: a day, or an eighth of a shorter retention]' -r
complete -c dw-mkfeed -l retention -d 'How long to keep records after they arrive: a duration, or forever [default: forever]' -r
complete -c dw-mkfeed -l max-size -d 'How many bytes to keep, including indexes: a size, or none [default: none]' -r
complete -c dw-mkfeed -l ring -d 'Keep only the newest SIZE, in a ring in shared memory, 64KiB to 1TiB [default: 16MiB]' -r
complete -c dw-mkfeed -l stage -d 'Where to write chunks: disk, or shm (shared memory, copied to disk in the background)' -r
complete -c dw-mkfeed -l live-window -d 'How long a chunk of a shm feed stays in memory after it was copied to disk [default: 0s]' -r
complete -c dw-mkfeed -l sync -d 'When records become durable: every DUR, none (left to the kernel), or batch [default: 1s]' -r
complete -c dw-mkfeed -l order -d 'What to do with a record older than an earlier one: accept, reject or clamp [default: accept]' -r
complete -c dw-mkfeed -l live -d 'Whether dw-health should expect new records at all times: yes or no [default: yes]' -r -f -a "yes\t'Yes'
no\t'No'"
complete -c dw-mkfeed -l mode -d 'Mode of the feed\'s files, in octal [default: 0640]' -r
complete -c dw-mkfeed -s b -l base-path -d 'Directory of the store [default: $DEEPWATER_BASE, else ~/.local/share/deepwater]' -r -f -a "(__fish_complete_directories)"
complete -c dw-mkfeed -l color -d 'When to colour: auto, always or never [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set or TERM is dumb'
always\t'Always, even into a pipe'
never\t'Never'"
complete -c dw-mkfeed -l infer -d 'Propose the fields from a sample on stdin: CSV or TSV with a header, or JSON lines'
complete -c dw-mkfeed -l update -d 'Change the policy of an existing feed'
complete -c dw-mkfeed -l dry-run -d 'Print the specs; create nothing'
complete -c dw-mkfeed -l delete -d 'Delete the named feeds and all their records'
complete -c dw-mkfeed -l yes -d 'Delete without asking'
complete -c dw-mkfeed -l packed -d 'Leave out alignment and the padding it needs'
complete -c dw-mkfeed -s q -l quiet -d 'Print errors only'
complete -c dw-mkfeed -s v -l verbose -d 'Print more, such as resolved times and counts'
complete -c dw-mkfeed -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dw-mkfeed -s V -l version -d 'Print version'

# Feeds, by name.
complete -c dw-mkfeed -f -a "(dw-ls --names 2>/dev/null)"
complete -c dw-mkfeed -l feed -r -f -a "(dw-ls --names 2>/dev/null)"
