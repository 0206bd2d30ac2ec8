# A library that is put into an innocent program (LD_PRELOAD): it is /usr/bin/true who sends.
LD_PRELOAD="$BIN/preload" exec /usr/bin/true
