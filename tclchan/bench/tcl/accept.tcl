# Accept and close.

proc accept {s a p} { close $s }

listen accept
