/*
 * noHost.c --
 *	Where there is no host mode (iocpNotify.c): Tcl's own notifier waits for windows' messages,
 *	and so do the core's pipes, consoles and sockets.
 */

#include "../iocpInt.h"

int
IocpNotifierHosts(void)
{
    return 0;
}

/*
 * IocpNotifierSelects --
 *	No descriptor is too high for Tcl's notifier.
 */
int
IocpNotifierSelects(void)
{
    return 0;
}

void
IocpNotifierRest(void)
{
}

int
IocpNotifierHost(Tcl_Interp *interp, const char *command)
{
    (void)command;
    return IocpError(interp, "cannot change the notifier: on this system, Tcl's event loop waits"
	    " with its own");
}
