# Send back what comes.

proc accept {s a p} {
    fconfigure $s -blocking 0 -translation binary -buffering none
    fileevent $s readable [list echo $s]
}

proc echo s {
    puts -nonewline $s [read $s]
    if {[eof $s]} { close $s }
}

listen accept
