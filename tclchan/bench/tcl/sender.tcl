# Send as fast as the client takes it.
#   path     a file, whose bytes are sent over and over
#   sendcap  buffers that are accepted for sending at most

set f [open $path rb]
set chunk [read $f]
close $f

proc accept {s a p} {
    fconfigure $s -blocking 0 -translation binary -sendcap $::sendcap
    fileevent $s writable [list feed $s]
}

proc feed s {
    if {[catch {puts -nonewline $s $::chunk}]} { close $s }
}

listen accept
