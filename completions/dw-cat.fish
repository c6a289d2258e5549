complete -c dw-cat -l feed -d 'A feed, as by position; may be repeated' -r
complete -c dw-cat -s S -l since -d 'From this time on (see TIMES)' -r
complete -c dw-cat -s U -l until -d 'Up to this time, which is not included' -r
complete -c dw-cat -l tz -d 'Zone of times without one: a name as America/New_York, or an offset [default: $TZ]' -r
complete -c dw-cat -l seq -d 'Only seqs from A up to B, which is not included; either may be left out' -r
complete -c dw-cat -l where -d 'Only records with that value (also != < <= > >=); all of several' -r
complete -c dw-cat -s n -l lines -d 'Only the last N of them; +N: the first N' -r
complete -c dw-cat -l replay -d 'Print as it happened, by the records\' times; SPEED 10 is ten times as fast [default: 1]' -r
complete -c dw-cat -l cursor-file -d 'Go on after the last record printed by the last run with FILE, which keeps the place' -r -F
complete -c dw-cat -s o -l output -d 'jsonl, csv, tsv, raw, npy or table' -r
complete -c dw-cat -l fields -d 'Only these fields, in this order' -r
complete -c dw-cat -l time -d 'Times as raw integers or as rfc3339 (in --tz, else UTC) [default: raw; table: rfc3339]' -r -f -a "raw\t'As stored'
rfc3339\t'As text'"
complete -c dw-cat -l ints -d '64-bit integers in JSON: number or string' -r -f -a "number\t'As numbers'
string\t'As strings'"
complete -c dw-cat -s b -l base-path -d 'The store\'s directory [default: $DEEPWATER_BASE, else ~/.local/share/deepwater]' -r -f -a "(__fish_complete_directories)"
complete -c dw-cat -l color -d 'When to colour: auto, always or never [default: auto]' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set or TERM is dumb'
always\t'Even into a pipe'
never\t'Not at all'"
complete -c dw-cat -s r -l reverse -d 'Newest first'
complete -c dw-cat -l playback -d 'Begin at the last mark at or before --since (without it: at the last mark)'
complete -c dw-cat -s f -l follow -d 'Go on with records as they come; alone, from now on'
complete -c dw-cat -l spin -d 'With -f, never sleep: the least delay, for a whole processor'
complete -c dw-cat -l no-header -d 'No header line in csv, tsv and table'
complete -c dw-cat -l with-seq -d 'Print each record\'s seq first, as _seq'
complete -c dw-cat -l with-feed -d 'Print the feed\'s name, as _feed'
complete -c dw-cat -s q -l quiet -d 'Errors only'
complete -c dw-cat -s v -l verbose -d 'Say more: resolved times, counts'
complete -c dw-cat -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dw-cat -s V -l version -d 'Print version'

# Feeds, by name.
complete -c dw-cat -f -a "(dw-ls --names 2>/dev/null)"
complete -c dw-cat -l feed -r -f -a "(dw-ls --names 2>/dev/null)"
