# tcllib's httpd (Debian: tcllib): one coroutine for each request, which is also one connection.
#
# It is not the default server, for the reasons given in httpd_xotcl.tcl. The hooks it offers for
# its dispatch and its replies are enough for giving a site right types and dates, HEAD and
# If-Modified-Since, and for keeping "..", "~" and hidden files out, which it does not by itself.

::tclchan::httpd::need httpd 4.3 tcllib

::clay::define ::tclchan::httpd::tcllib_server {
    superclass ::httpd::server

    method start {} {
        my variable socklist port_listening
        next
        set port_listening [::tclchan::httpd::port_of [lindex $socklist 0]]
    }

    # What begins with no request meets an error in the server's own handler of errors, which then
    # leaves the connection open for ever.
    method Connect {uuid sock ip} {
        try {
            next $uuid $sock $ip
        } on error {} {
            catch {chan puts $sock "HTTP/1.0 400 Bad Request\n"}
            catch {chan close $sock}
        }
    }

    method Dispatch_Local query {
        set path /[string trimleft [dict get $query http REQUEST_PATH] /]
        if {$path eq "/stats.json"} {
            dict set query mixin reply ::tclchan::httpd::tcllib_stats
            return $query
        }
        lassign [::tclchan::httpd::find [my clay get server/ doc_root] $path] kind file
        dict set query tclchan_kind $kind
        dict set query tclchan_file $file
        dict set query mixin reply ::tclchan::httpd::tcllib_file
        return $query
    }
}

# What is common to all replies: the date in the form that HTTP wants, no body for HEAD and 304, and
# the empty line that ends a header, which the server forgets when no body follows.
::clay::define ::tclchan::httpd::tcllib_reply {
    method HttpHeaders_Default {} {
        return {Status {200 OK} Content-Type {text/html; charset=utf-8} Connection close}
    }

    method timestamp {} { ::tclchan::httpd::date [clock seconds] }

    # The pages about errors quote the path, which is the client's own text. Where an error was
    # is for the log, not for the client.
    method error {code {message ""} {trace ""}} {
        if {$trace ne ""} {
            ::tclchan::httpd::report $message [dict create -code error -level 0 -errorinfo $trace]
        }
        my request set REQUEST_PATH [::tclchan::httpd::escape [my request get REQUEST_PATH]]
        if {$code >= 400} { set message [::tclchan::httpd::escape $message] }
        next $code $message
    }

    method DoOutput {} {
        my variable reply_body chan
        if {$chan eq ""} return
        if {$reply_body ne "" && [my request get REQUEST_METHOD] ne "HEAD"} { return [next] }
        if {$reply_body ne ""} { my reply set Content-Length [string length $reply_body] }
        catch {
            chan configure $chan -translation binary
            chan puts -nonewline $chan [my reply output]\n
        }
    }
}

::clay::define ::tclchan::httpd::tcllib_stats {
    superclass ::tclchan::httpd::tcllib_reply

    method content {} {
        my reply set Content-Type application/json
        my reply set Cache-Control no-store
        my puts [string trim [::tclchan::httpd::stats_json]]
    }
}

# The server's own reply for files, told which file it is.
::clay::define ::tclchan::httpd::tcllib_file {
    superclass ::tclchan::httpd::tcllib_reply ::httpd::content.file

    method FileName {} { my clay get tclchan_file }

    method content {} {
        my variable reply_file reply_body
        set file [my clay get tclchan_file]
        set method [my request get REQUEST_METHOD]
        if {$method ni {GET HEAD}} { return [my error 405 "$method is not served here"] }
        switch [my clay get tclchan_kind] {
            redirect {
                set query [my request get QUERY_STRING]
                if {$query ne ""} { append file ?$query }
                # The page with the address has it in quotes, too.
                return [my error 302 [string map {\" %22 < %3C > %3E} $file]]
            }
            missing { return [my error 404 "File Not Found"] }
            listing {
                append reply_body \
                    [::tclchan::httpd::listing $file /[my request get REQUEST_PATH]]
                return
            }
            template {
                my reply set Cache-Control no-store
                append reply_body [::tclchan::httpd::render $file]
                return
            }
        }
        set mtime [file mtime $file]
        my reply set Last-Modified [::tclchan::httpd::date $mtime]
        my reply set Content-Type [::tclchan::httpd::content_type $file]
        if {[::tclchan::httpd::unmodified $mtime [my request get HTTP_IF_MODIFIED_SINCE]]} {
            my reply set Status "304 Not Modified"
        } elseif {$method eq "HEAD"} {
            my reply set Content-Length [file size $file]
        } elseif {[catch {close [open $file]} message options]} {
            # The server's own reply opens it when the header is out.
            ::tclchan::httpd::report $message $options
            my error 503
        } else {
            set reply_file $file
        }
    }
}

proc ::tclchan::httpd::start {root address port options} {
    variable httpd [tcllib_server new port $port myaddr $address doc_root $root]
    return [$httpd port_listening]
}

# Each answer is the last one in any case.
proc ::tclchan::httpd::last_answers {} {}

# Once a request is there, its coroutine does not wait for more of it.
proc ::tclchan::httpd::waiting {} {
    set waiting {}
    foreach chan [connections] {
        if {[fileevent $chan readable] ne ""} { dict set waiting $chan [list close $chan] }
    }
    return $waiting
}

proc ::tclchan::httpd::stop {} {
    variable httpd
    hang_up
    # The destructor forgets its listener, and the task that looks for clients that are too slow.
    $httpd stop
    $httpd destroy
    # What runs such tasks keeps a timer for the next of them, and sets it anew with the next.
    if {[array size ::cron::processTable] == 0} { after cancel $::cron::next_event }
}
