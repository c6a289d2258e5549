complete -c dw-cat -l feed -d 'Name of a feed, instead of a positional argument; may be repeated' -r
complete -c dw-cat -s S -l since -d 'Only records at or after this time (see Times)' -r
complete -c dw-cat -s U -l until -d 'Only records before this time' -r
complete -c dw-cat -l tz -d 'Time zone of times without one, such as America/New_York or +02:00 [default: $TZ]' -r
complete -c dw-cat -l seq -d 'Only seqs from A up to but not including B; either may be left out' -r
complete -c dw-cat -l where -d 'Only records with this value (also != < <= > >=); repeat to require several' -r
complete -c dw-cat -s n -l lines -d 'Only the last N records; +N for the first N' -r
complete -c dw-cat -l replay -d 'Print at the recorded pace; SPEED 10 is ten times as fast [default: 1]' -r
complete -c dw-cat -l cursor-file -d 'Continue after the last record that the last run with FILE printed, and save the new position' -r -F
complete -c dw-cat -s o -l output -d 'Output format: jsonl, csv, tsv, raw, npy or table' -r
complete -c dw-cat -l fields -d 'Print only these fields, in this order' -r
complete -c dw-cat -l time -d 'Print times as raw integers or as rfc3339 (in --tz, else UTC) [default: raw; table: rfc3339]' -r -f -a "raw\t'As stored'
rfc3339\t'As text'"
complete -c dw-cat -l ints -d 'Print 64-bit integers in JSON as number or string' -r -f -a "number\t'As numbers'
string\t'As strings'"
complete -c dw-cat -s b -l base-path -d 'Directory of the store [default: $DEEPWATER_BASE, else ~/.local/share/deepwater]' -r -f -a "(__fish_complete_directories)"
complete -c dw-cat -l color -d 'When to colour: auto, always or never [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set or TERM is dumb'
always\t'Always, even into a pipe'
never\t'Never'"
complete -c dw-cat -s r -l reverse -d 'Print the newest record first'
complete -c dw-cat -l playback -d 'Begin at the last mark at or before --since, or at the last mark of all'
complete -c dw-cat -s f -l follow -d 'Continue with new records as they arrive; without other options print only those'
complete -c dw-cat -l spin -d 'With -f, poll without sleeping: lowest latency, uses a whole CPU'
complete -c dw-cat -l no-header -d 'Print no header line in csv, tsv and table'
complete -c dw-cat -l with-seq -d 'Print the seq of each record as the first field, _seq'
complete -c dw-cat -l with-feed -d 'Print the name of the feed as a field, _feed'
complete -c dw-cat -s q -l quiet -d 'Print errors only'
complete -c dw-cat -s v -l verbose -d 'Print more, such as resolved times and counts'
complete -c dw-cat -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dw-cat -s V -l version -d 'Print version'

# Feeds, by name.
complete -c dw-cat -f -a "(dw-ls --names 2>/dev/null)"
complete -c dw-cat -l feed -r -f -a "(dw-ls --names 2>/dev/null)"
