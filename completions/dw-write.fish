complete -c dw-write -l feed -d 'Name of the feed; all positional arguments are then files' -r
complete -c dw-write -l format -d 'Input format: auto, csv, tsv, jsonl or raw; auto detects csv, tsv and jsonl' -r -f -a "auto\t''
csv\t''
tsv\t''
jsonl\t''
raw\t''"
complete -c dw-write -l header -d 'Whether the first row is a header [default: yes if every cell names a field]' -r -f -a "yes\t''
no\t''"
complete -c dw-write -l columns -d 'Names of the columns, in order; - skips a column' -r
complete -c dw-write -l map -d 'Take FIELD from a header, a column number (from 1) or a JSON pointer; may be repeated' -r
complete -c dw-write -l explode -d 'Write one record per element of this array; ./1 points into the element' -r
complete -c dw-write -l where -d 'Take only messages where POINTER exists, or has VALUE; repeat to require several' -r
complete -c dw-write -l ts-unit -d 'Unit of times given as numbers: s, ms, us or ns [default: the feed\'s unit]' -r
complete -c dw-write -l ts-format -d 'Format of times given as text, as in strftime [default: RFC 3339]' -r
complete -c dw-write -l ts-base -d 'Read times as times of this day; numbers count milliseconds (or --ts-unit) since midnight' -r
complete -c dw-write -l tz -d 'Time zone of times without an offset, which are rejected otherwise' -r
complete -c dw-write -l stamp -d 'Set this field to the time of arrival; may be repeated' -r
complete -c dw-write -l on-bad -d 'What to do with a bad row: skip or stop [default: stop for regular files, else skip]' -r -f -a "skip\t'Skip it'
stop\t'Stop at it'"
complete -c dw-write -l rejects -d 'Save rejected rows to FILE as JSON lines: file, line, column, reason, text' -r -F
complete -c dw-write -l final-line -d 'A last line without a newline: accept or reject [default: accept for regular files]' -r -f -a "accept\t''
reject\t''"
complete -c dw-write -l mark-every -d 'Mark every N-th record for playback, beginning with the first' -r
complete -c dw-write -l mark-when -d 'Mark records with this value for playback (also != < <= > >=)' -r
complete -c dw-write -l sync -d 'When records become durable: every DUR, none (left to the kernel), or batch [default: the feed\'s policy]' -r
complete -c dw-write -l stats -d 'Report rows, bytes, lag and rejects on stderr at this interval' -r
complete -c dw-write -l create -d 'Create the feed, and the store, from this spec if they do not exist' -r -F
complete -c dw-write -s b -l base-path -d 'Directory of the store [default: $DEEPWATER_BASE, else ~/.local/share/deepwater]' -r -f -a "(__fish_complete_directories)"
complete -c dw-write -l color -d 'When to colour: auto, always or never [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set or TERM is dumb'
always\t'Always, even into a pipe'
never\t'Never'"
complete -c dw-write -l strict -d 'Reject rows that have unused columns or keys'
complete -c dw-write -l ts-truncate -d 'Truncate times that are finer than the feed\'s unit, instead of rejecting them'
complete -c dw-write -l ack -d 'Print N on stdout when all seqs below N are durable'
complete -c dw-write -s q -l quiet -d 'Print errors only'
complete -c dw-write -s v -l verbose -d 'Print more, such as resolved times and counts'
complete -c dw-write -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dw-write -s V -l version -d 'Print version'

# Feeds, by name.
complete -c dw-write -a "(dw-ls --names 2>/dev/null)"
complete -c dw-write -l feed -r -f -a "(dw-ls --names 2>/dev/null)"
