# Send as long as the client takes it. Beside another script: a second listener of the process.
#   path   a file, whose bytes are sent over and over

set f [open $path rb]
set chunk [read $f]
close $f

proc accept_slow {s a p} {
    fconfigure $s -blocking 0 -translation binary
    fileevent $s writable [list feed $s]
}

proc feed s {
    if {[catch {puts -nonewline $s $::chunk; flush $s}]} { close $s }
}

listen accept_slow
