# The server of soak.py: sends a file to whoever asks for it, and says how it is when it is asked.
#
#   tclsh soak.tcl FILE     prints three ports, of listeners with -sendcap 1, 2 and 20; then each
#                           line of standard input is a script whose result is printed

lappend auto_path $env(TCLCHAN_LIBDIR)
package require Iocpsock
source [file join [file dirname [info script]] talker.tcl]

lassign $argv fileName
set fileSize [file size $fileName]
# Connections that a script was called for; downloads that were sent whole, that the client broke
# off, and that ended with neither; background errors.
foreach name {called whole broken wrong errors} {
    set $name 0
}
set lastError ""

proc bgerror {message} {
    incr ::errors
    set ::lastError $message
}

proc taken {chan args} {
    incr ::called
    fconfigure $chan -blocking 0 -translation binary
    fileevent $chan readable [list request $chan]
}

# request --
#	A line asks for the file. Much of what comes here is half a line, and an end.
proc request {chan} {
    if {[gets $chan line] >= 0} {
        fileevent $chan readable {}
        set file [open $::fileName rb]
        fcopy $file $chan -command [list sent $file $chan]
    } elseif {[eof $chan]} {
        close $chan
    }
}

proc sent {file chan count {error ""}} {
    close $file
    catch {close $chan}
    if {$error ne ""} {
        incr ::broken
    } elseif {$count == $::fileSize} {
        incr ::whole
    } else {
        incr ::wrong
        set ::lastError "$count bytes were sent"
    }
}

proc report {} {
    set fds [llength [glob -directory /proc/self/fd *]]
    set file [open /proc/self/statm]
    set rss [expr {[lindex [read $file] 1] * 4096}]
    close $file
    set report [list fds $fds rss $rss]
    foreach name {called whole broken wrong errors} {
        lappend report $name [set ::$name]
    }
    foreach name {socketsOpen heapBytes bytesQueued acceptsDead accepts bytesSent} {
        lappend report $name [dict get [iocp::stats] $name]
    }
    return $report
}

set ports {}
foreach {cap mode} {1 zero-byte 2 flow-controlled 20 {burst-detection 4 8}} {
    set listener [socket2 -server taken -myaddr 127.0.0.1 0]
    fconfigure $listener -sendcap $cap -recvmode $mode -backlog 500
    lappend ports [lindex [fconfigure $listener -sockname] 2]
}
# What is opened once is open before anything is counted.
after 1 {set started 1}
vwait started
talk $ports
