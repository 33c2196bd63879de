# What tcllib's server answers, for the access log. The classes are ours: see httpd_tcllib.tcl.

::clay::define ::tclchan::httpd::tcllib_reply {
    # The end of an answer, and of its connection. The destructor calls it again.
    method close {} {
        my variable request reply_body reply_chan dispatched_time logged
        if {![info exists logged] && [my request get REQUEST_RAW] ne ""} {
            set logged 1
            set status [lindex [my reply get Status] 0]
            if {[my request get REQUEST_METHOD] eq "HEAD" || $status == 304} {
                set bytes 0
            } elseif {[info exists reply_chan]} {
                set bytes [tell $reply_chan]
            } else {
                set bytes [string length $reply_body]
            }
            ::tclchan::access::entry [my request get REMOTE_ADDR] [my request get REMOTE_USER] \
                [expr {$dispatched_time / 1000}] [my request get REQUEST_RAW] $status $bytes \
                [my request get HTTP_REFERER] [my request get HTTP_USER_AGENT]
        }
        next
    }
}

::clay::define ::tclchan::httpd::tcllib_server {
    # A request that it cannot read gets no reply object. It tells its own log, which is this method
    # and knows all but the line.
    method log {type args} {
        upvar 1 http_request line ip ip
        if {$type eq "BadRequest" && [info exists line] && $line ne ""} {
            ::tclchan::access::entry $ip "" [clock seconds] $line 400 0 "" ""
        }
    }
}
