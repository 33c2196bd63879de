# Put into a file what comes until the client has no more, then answer with the number of bytes and
# close.
#   path         the file
#   copy         the command that copies it: fcopy, or one with the same arguments
#   bufferSize   of both channels; 4096 is what scripts get that set nothing

proc accept {s a p} {
    fconfigure $s -blocking 0 -translation binary -buffersize $::bufferSize
    set f [open $::path wb]
    fconfigure $f -buffersize $::bufferSize
    $::copy $s $f -command [list done $s $f]
}

proc done {s f bytes {error ""}} {
    close $f
    puts -nonewline $s [expr {$error eq "" ? $bytes : $error}]
    close $s
}

listen accept
