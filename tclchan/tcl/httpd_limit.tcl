# No more than so many connections at a time: the server gets the next one when another is closed.
#
# The servers' "socket -server" calls admit here. Until it is the turn of a connection, nobody reads
# from it. While some wait, nothing more is accepted: the rest waits in the kernel's queue.

namespace eval ::tclchan::httpd::limit {
    variable most 0
    # At most so many connections are open with the server. When that is too many, they are counted.
    variable open 0
    # Those that wait, in order: the words of the server's command.
    variable held {}
}

# Let the servers that are started from now on have at most count connections each.
proc ::tclchan::httpd::limit::set_to count {
    variable most $count
    interp alias {} ::socket {} ::tclchan::httpd::limit::open_socket
}

proc ::tclchan::httpd::limit::open_socket args {
    if {[lindex $args 0] eq "-server"} {
        lset args 1 [list ::tclchan::httpd::limit::admit [lindex $args 1]]
    }
    tailcall ::socket2 {*}$args
}

proc ::tclchan::httpd::limit::admit {command chan host port} {
    variable held
    lappend held [list {*}$command $chan $host $port]
    if {[llength $held] == 1 && ![serve_next]} {
        ::tclchan::httpd::accept_more 0
        look_again
    }
}

# Hand the first connection that waits to the server, if it may have it.
proc ::tclchan::httpd::limit::serve_next {} {
    variable most
    variable open
    variable held
    if {$open >= $most} {
        set open [expr {[llength [::tclchan::httpd::connections]] - [llength $held]}]
        if {$open >= $most} { return 0 }
    }
    set held [lassign $held command]
    incr open
    uplevel #0 $command
    return 1
}

proc ::tclchan::httpd::limit::look_again {} {
    variable held
    try {
        while {[llength $held] && [serve_next]} {}
    } finally {
        if {[llength $held]} {
            after 10 ::tclchan::httpd::limit::look_again
        } else {
            ::tclchan::httpd::accept_more 1
        }
    }
}
