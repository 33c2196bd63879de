# What a tclsh has for the benchmark, as lines of a name and a value.  tclsh probe.tcl LIBRARY

puts "patchlevel [info patchlevel]"
foreach {package name} {httpd tcllib xotcl::comm::httpd xotcl} {
    # Where its requirements are missing too, it is as if it was not installed.
    if {$name eq "xotcl"} { catch {package require XOTcl} }
    if {![catch {package require $package}]} { puts "server $name" }
}
lappend auto_path [lindex $argv 0]
if {[catch {package require iocpsock} message]} {
    puts "missing [string map {\n { }} $message]"
    exit
}
foreach engine [iocp::engines] {
    if {[dict get $engine usable]} { puts "engine [dict get $engine name]" }
}
foreach command {::iocp::copy} {
    if {[info commands $command] ne ""} { puts "command $command" }
}
set listener [socket2 -server list -myaddr 127.0.0.1 0]
set s [socket2 127.0.0.1 [lindex [fconfigure $listener -sockname] 2]]
foreach option {-busypoll -sendcap} {
    if {![catch {fconfigure $s $option}]} { puts "option $option" }
}
