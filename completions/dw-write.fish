complete -c dw-write -l feed -d 'The feed, as by position; all positions are then files' -r
complete -c dw-write -l format -d 'auto, csv, tsv, jsonl or raw; auto tells the first three apart' -r -f -a "auto\t''
csv\t''
tsv\t''
jsonl\t''
raw\t''"
complete -c dw-write -l header -d 'Whether the first row is a header [default: if every cell names a field]' -r -f -a "yes\t''
no\t''"
complete -c dw-write -l columns -d 'Names of the columns, in order; - skips one' -r
complete -c dw-write -l map -d 'Take FIELD from a header, a column number (from 1) or a JSON pointer; may be repeated' -r
complete -c dw-write -l explode -d 'One record for each element of this array; ./1 points into the element' -r
complete -c dw-write -l where -d 'Only messages where POINTER exists, or has that value; all of several' -r
complete -c dw-write -l ts-unit -d 'Unit of times given as numbers: s, ms, us or ns [default: the feed\'s]' -r
complete -c dw-write -l ts-format -d 'Format of times given as text, as for strftime [default: RFC 3339]' -r
complete -c dw-write -l ts-base -d 'Times are times of this day (numbers: milliseconds, or --ts-unit, since its midnight)' -r
complete -c dw-write -l tz -d 'Zone of times without an offset; without it they are rejected' -r
complete -c dw-write -l stamp -d 'Write the time of arrival into this field; may be repeated' -r
complete -c dw-write -l on-bad -d 'At a bad row: skip or stop [default: stop for regular files, else skip]' -r -f -a "skip\t'It is left out'
stop\t'It ends the run'"
complete -c dw-write -l rejects -d 'Keep rejected rows in FILE, as JSON lines: file line column reason text' -r -F
complete -c dw-write -l final-line -d 'A last line without newline: accept or reject [default: accept for regular files]' -r -f -a "accept\t''
reject\t''"
complete -c dw-write -l mark-every -d 'Mark every N-th record for playback, from the first' -r
complete -c dw-write -l mark-when -d 'Mark records with that value for playback (also != < <= > >=)' -r
complete -c dw-write -l sync -d 'Make records durable every so often, at none, or each batch [default: the feed\'s]' -r
complete -c dw-write -l stats -d 'Report rows, bytes, lag and rejects on stderr every so often' -r
complete -c dw-write -l create -d 'Make the feed, and the store, from this spec if it is not there' -r -F
complete -c dw-write -s b -l base-path -d 'The store\'s directory [default: $DEEPWATER_BASE, else ~/.local/share/deepwater]' -r -f -a "(__fish_complete_directories)"
complete -c dw-write -l color -d 'When to colour: auto, always or never [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set or TERM is dumb'
always\t'Even into a pipe'
never\t'Not at all'"
complete -c dw-write -l strict -d 'Reject rows with columns or keys that nothing uses'
complete -c dw-write -l ts-truncate -d 'Cut times finer than the feed\'s unit, where they would be rejected'
complete -c dw-write -l ack -d 'Print N on stdout each time all seqs below N have become durable'
complete -c dw-write -s q -l quiet -d 'Errors only'
complete -c dw-write -s v -l verbose -d 'Say more: resolved times, counts'
complete -c dw-write -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dw-write -s V -l version -d 'Print version'

# Feeds, by name.
complete -c dw-write -a "(dw-ls --names 2>/dev/null)"
complete -c dw-write -l feed -r -f -a "(dw-ls --names 2>/dev/null)"
