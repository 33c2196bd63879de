# What tclhttpd answers, for the access log: traces on its procedures, which stay as they are. In
# its own array for a connection (Httpd$sock), the elements tclchan,* are ours; like the others they
# end with the answer. Its own log, in the directory of its logs, is another and goes on.

namespace eval ::tclchan::access {
    variable this_file [file normalize [info script]]
}

# Called when the procedures are there. The interpreters of virtual hosts are there by then, too.
proc ::tclchan::access::install {} {
    variable this_file
    foreach {command handler} {
        Url_Dispatch dispatching  Log refusing  HttpdRespondHeader responding
        HttpdCopyDone copied  CgiClose copied
        Httpd_SockClose answered  HttpdCloseFinal answered
    } {
        if {[info procs ::$command] ne ""} {
            trace add execution ::$command enter ::tclchan::access::$handler
        }
    }
    set children {}
    foreach host [array names ::virtual] { lappend children $::virtual($host) }
    foreach child [lsort -unique $children] {
        interp alias $child ::tclchan::access::entry {} ::tclchan::access::entry
        interp eval $child [list source $this_file]
        interp eval $child ::tclchan::access::install
    }
}

# The handlers get the words of the call.

proc ::tclchan::access::dispatching {words op} {
    upvar #0 Httpd[lindex $words 1] data
    set data(tclchan,seconds) [clock seconds]
}

# A line that is no request ends the connection.
proc ::tclchan::access::refusing {words op} {
    lassign $words command sock reason line
    if {$reason eq "HttpError"} { set ::Httpd${sock}(tclchan,line) $line }
}

proc ::tclchan::access::responding {words op} {
    lassign $words command sock type close size
    set ::Httpd${sock}(tclchan,bytes) $size
}

# HttpdCopyDone in sock close bytes ?error?, CgiClose pipe sock ?bytes? ?error?
proc ::tclchan::access::copied {words op} {
    upvar #0 Httpd[lindex $words 2] data
    set bytes [lindex $words [expr {[lindex $words 0] eq "CgiClose" ? 3 : 4}]]
    if {[info exists data] && [string is integer -strict $bytes]} {
        set data(tclchan,bytes) $bytes
    }
}

# Both ends of an answer come here, one after the other; and so do connections without a request.
proc ::tclchan::access::answered {words op} {
    upvar #0 Httpd[lindex $words 1] data
    foreach {field names} {
        line {line tclchan,line}  seconds tclchan,seconds  user remote_user
        status {code headercode}  bytes tclchan,bytes  method proto
        referer mime,referer  agent mime,user-agent
    } {
        set $field ""
        foreach name $names {
            if {[info exists data($name)]} {
                set $field $data($name)
                break
            }
        }
    }
    if {$line eq "" || [info exists data(tclchan,logged)]} return
    set data(tclchan,logged) 1
    if {$seconds eq ""} { set seconds [clock seconds] }
    if {$method eq "HEAD"} { set bytes 0 }
    # CGI programs have "200 data follows".
    entry $data(ipaddr) $user $seconds $line [lindex $status 0] $bytes $referer $agent
}
