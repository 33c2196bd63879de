# What XOTcl's server answers, for the access log: a mixin of its workers (see httpd_xotcl.tcl).

namespace eval ::tclchan::httpd::xotcl {
    # The array "asked" is there from the first line of a request to the end of its answer.
    Class AccessLog

    # The server keeps the line of a request nowhere, but it tells its own log.
    AccessLog instproc log {reason arg} {
        if {$reason eq "Query"} {
            my ask $arg
        } elseif {$reason eq "Error" && [regexp {^bad first line:(.*)} $arg -> line]} {
            my ask $line
        }
        next
    }

    AccessLog instproc ask line {
        my array set asked [list line $line seconds [clock seconds] status "" bytes 0]
    }

    AccessLog instproc replyCode {code args} {
        my set asked(status) $code
        next
    }

    AccessLog instproc sendText {response args} {
        # Of nothing it makes a space.
        if {[my set method] ne "HEAD"} {
            my set asked(bytes) [expr {max(1, [string length $response])}]
        }
        next
    }

    AccessLog instproc fcopy-end {file bytes args} {
        my set asked(bytes) $bytes
        next
    }

    # The end of an answer. The connection may go on.
    AccessLog instproc close {} {
        my answered
        next
    }

    # The end of the connection, perhaps in the midst of an answer.
    AccessLog instproc destroy {} {
        my answered
        next
    }

    AccessLog instproc answered {} {
        if {![my exists asked(line)]} return
        my instvar asked
        foreach name {user meta(referer) meta(user-agent)} field {user referer agent} {
            set $field ""
            if {[my exists $name]} { set $field [my set $name] }
        }
        ::tclchan::access::entry [my ipaddr] $user $asked(seconds) $asked(line) $asked(status) \
            $asked(bytes) $referer $agent
        my unset asked
    }

    Worker instmixin AccessLog
}
