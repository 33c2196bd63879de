# A web server that is installed, as "tclchan httpd" hosts it.
#   server   xotcl or tcllib
#   hosting  the directory with the scripts that host it
#   root     the directory that it serves
#   work     a directory for its logs

if {$command ne "socket"} {
    rename socket core_socket
    interp alias {} socket {} $command
}
source [file join $hosting httpd.tcl]
set ::tclchan::httpd::server $server
source [file join $hosting httpd_$server.tcl]
lappend ports [::tclchan::httpd::start $root 127.0.0.1 0 [list work_dir $work log_dir ""]]
