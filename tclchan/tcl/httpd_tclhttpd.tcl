# tclhttpd (a tree of its sources, as checked out), started by its own bin/httpd.tcl.
#
# Nothing in the tree is changed or written to. What has to differ is said through its configuration
# file, its command line, and the start-up script that it lets one name with -main.

if {[info exists ::tclchan::httpd::spent]} {
    error "it was started in this interpreter before, and its commands keep what they know of that\
        site: it takes another Interp"
}
if {[info commands ::httpd::server] ne ""} {
    error "tcllib's httpd is in this interpreter, and a package of tclhttpd has the same name: it\
        takes another Interp"
}

# tclhttpd itself takes these from tcllib, and blames a missing "Standard Tcl Library" on its tree.
foreach package {md5 base64 ncgi html uri counter cmdline fileutil} version {1 2 1 1 1 2 1 1} {
    ::tclchan::httpd::need $package $version tcllib
}

proc ::tclchan::httpd::start {root address port options} {
    variable work [dict get $options work_dir]
    variable spent
    set tree [dict get $options tclhttpd]
    # Templates write the pages made from them beside themselves: the tree's own get a copy.
    if {$root eq ""} {
        set root [file join $work htdocs]
        file copy [file join $tree htdocs] $root
    }
    # The server makes links to itself, so that it has to know its port before it listens.
    if {$port == 0} { set port [free_port $address] }
    set logs [expr {[dict get $options log_dir] ne "" ? [dict get $options log_dir] : $work}]
    set home [file join $tree bin]
    save [file join $work tclhttpd.rc] \
        [load_text [file join $home tclhttpd.rc]] \
        [list Config LogFile [file join $logs log]] \
        [list Config pidfile [file join $work tclhttpd.pid]] \
        [list Config https_host $address] \
        [list Config https_ipaddr $address] \
        {# The certificate of the tree is of 1999. A configuration file that names another, and sets
         # USE_SSL2 0, USE_SSL3 0, USE_TLS1 1, has HTTPS.
         Config SSL_CERTFILE /nonexistent} \
        [expr {[dict get $options rc] ne "" ? [load_text [dict get $options rc]] : ""}]
    # Other packages by the name of httpd have higher versions, and a worker thread would find them.
    save [file join $work main.tcl] {
        package require httpd 1.6
        source [file join $Config(home) httpdthread.tcl]
        if {[info commands ::tclchan::httpd::extend] ne ""} { ::tclchan::httpd::extend }
    }
    set ::argv0 [file join $home httpd.tcl]
    set ::argv [list -config [file join $work tclhttpd.rc] -main [file join $work main.tcl] \
        -docRoot $root -host $address -ipaddr $address -port $port {*}[dict get $options arguments]]
    set ::argc [llength $::argv]
    set spent 1
    heartbeat
    try {
        uplevel #0 [list source $::argv0]
    } finally {
        after cancel $::tclchan::httpd::beat
    }
    return [port_of $::Httpd(listen)]
}

# The script ends in "vwait forever". This host has an event loop of its own: the wait is to end.
proc ::tclchan::httpd::heartbeat {} {
    variable beat [after 1 ::tclchan::httpd::heartbeat]
    set ::forever 1
}

# Called by the start-up script, when the packages of the server are there.
proc ::tclchan::httpd::extend {} {
    variable types
    foreach {extension type} $types {
        if {![info exists ::MimeType(.$extension)]} { set ::MimeType(.$extension) $type }
    }
    Url_PrefixInstall /stats.json {::tclchan::httpd::return_stats}
    if {[info commands ::StatusMainTable] ne ""} {
        rename ::StatusMainTable ::tclchan::httpd::main_table
        interp alias {} ::StatusMainTable {} ::tclchan::httpd::status_table
    }
    if {[info commands ::tclchan::access::install] ne ""} { ::tclchan::access::install }
}

# The pages below /status have what iocp_stats tells behind the server's own figures.
proc ::tclchan::httpd::status_table args {
    return "[main_table {*}$args]\n<p><table border>[iocp_stats 1]</table>\n"
}

proc ::tclchan::httpd::return_stats {sock suffix} {
    Httpd_AddHeaders $sock Cache-Control no-store
    Httpd_ReturnData $sock application/json [stats_json]
}

# The server counts how many requests a connection has left. Each answer counts down, beyond 0 too,
# so that this is called over and over.
proc ::tclchan::httpd::last_answers {} {
    set ::Httpd(maxused) 0
    foreach connection [info globals Httpd?*] {
        if {[info exists ::${connection}(left)]} { set ::${connection}(left) 0 }
    }
}

proc ::tclchan::httpd::waiting {} {
    set waiting {}
    foreach chan [connections] {
        upvar #0 Httpd$chan data
        if {[info exists data(state)] && $data(state) eq "start"} {
            dict set waiting $chan [list Httpd_SockClose $chan 1 ""]
        }
    }
    return $waiting
}

proc ::tclchan::httpd::stop {} {
    Httpd_Shutdown
    cancel_timers Httpd* Cgi* Log_* counter::*
    # The interpreter of a virtual host has connections, logs and timers of its own.
    foreach host [array names ::virtual] {
        set child $::virtual($host)
        foreach chan [interp eval $child {file channels iocp*}] {
            catch {interp transfer $child $chan {}}
        }
        interp delete $child
    }
    foreach connection [info globals Httpd?*] {
        if {![info exists ::${connection}(infile)]} continue
        # Closing a pipe in blocking mode would wait for the CGI program at its other end.
        catch {fconfigure [set ::${connection}(infile)] -blocking 0}
        catch {close [set ::${connection}(infile)]}
    }
    hang_up
    foreach log {Log(log_fd) Log(error_fd) Log(debug_fd) Httpd(cookie_log)} {
        if {[info exists ::$log]} { catch {close [set ::$log]} }
    }
}

proc ::tclchan::httpd::free_port address {
    set listener [socket -server {} -myaddr $address 0]
    try {
        return [port_of $listener]
    } finally {
        close $listener
    }
}

proc ::tclchan::httpd::load_text file {
    set in [open $file]
    try {
        return [read $in]
    } finally {
        close $in
    }
}

proc ::tclchan::httpd::save {file args} {
    set out [open $file w]
    try {
        puts $out [join $args \n]
    } finally {
        close $out
    }
}
