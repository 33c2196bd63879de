/*
 * The C side of tclchan._ffi: the host procedures of libiocpsock, which this module is linked to,
 * and what Tcl offers to other threads and tkinter does not: to unwind a script, and to have a
 * command called by the event loop of the interpreter's thread.
 */

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <tcl.h>
#include "iocpsock.h"

/*
 * TclchanInit --
 *	Make the others work. To be called on the thread of the interpreter.
 * Results:
 *	1, or 0 if this Tcl is not the one that the module was built for.
 */
static int
TclchanInit(
    uintptr_t interpAddr)	/* What tkinter's interpaddr() says. */
{
    if (Tcl_InitStubs((Tcl_Interp *) interpAddr, TCL_VERSION, 0) == NULL) {
	Tcl_ResetResult((Tcl_Interp *) interpAddr);
	return 0;
    }
    return 1;
}

/*
 * TclchanStartNotifier --
 *	Have Tcl start now what its event loop needs, and not when that first runs. In 8.6 that is a
 *	thread, which has the signal mask of the thread that starts it.
 */
static void
TclchanStartNotifier(void)
{
    int mode = Tcl_SetServiceMode(TCL_SERVICE_NONE);

    Tcl_SetServiceMode(TCL_SERVICE_ALL);
    Tcl_SetServiceMode(mode);
}

/*
 * TclchanUnwind --
 *	End whatever script the interpreter is evaluating, though it may compute without ever
 *	entering the event loop, and though it may catch errors. May be called on any thread: Tcl
 *	looks the address up in a table, so that a deleted interpreter does no harm.
 * Results:
 *	1, or 0 if there is no such interpreter.
 */
static int
TclchanUnwind(
    uintptr_t interpAddr)
{
    return tclStubsPtr != NULL && Tcl_CancelEval((Tcl_Interp *) interpAddr, NULL, NULL,
	    TCL_CANCEL_UNWIND) == TCL_OK;
}

/*
 * TclchanThread --
 *	What TclchanRing calls the thread that this is called on.
 */
static uintptr_t
TclchanThread(void)
{
    return (uintptr_t) Tcl_GetCurrentThread();
}

/*
 * A call of a command that waits in the event queue of the interpreter's thread. Tcl frees it.
 */
typedef struct {
    Tcl_Event header;
    Tcl_Interp *interp;		/* Lives: TclchanHush comes before its end. */
    char command[];
} Ring;

/*
 * Answer --
 *	Call the command. Not through an evaluation, which would fail while a script is unwound.
 * Results:
 *	1 if it was called, 0 if the event loop serves other kinds of events only.
 */
static int
Answer(
    Tcl_Event *evPtr,
    int flags)
{
    Ring *ringPtr = (Ring *) evPtr;
    Tcl_CmdInfo info;

    if (!(flags & TCL_FILE_EVENTS)) {
	return 0;
    }
    if (Tcl_GetCommandInfo(ringPtr->interp, ringPtr->command, &info)) {
	Tcl_Obj *wordPtr = Tcl_NewStringObj(ringPtr->command, -1);

	Tcl_IncrRefCount(wordPtr);
	(void) info.objProc(info.objClientData, ringPtr->interp, 1, &wordPtr);
	Tcl_DecrRefCount(wordPtr);
    }
    return 1;
}

/*
 * TclchanRing --
 *	Have the event loop of a thread call a command, which takes no arguments, of an interpreter
 *	of that thread. May be called on any thread.
 */
static void
TclchanRing(
    uintptr_t thread,		/* What TclchanThread said there. */
    uintptr_t interpAddr,
    const char *command)
{
    size_t length = strlen(command) + 1;
    Ring *ringPtr = (Ring *) ckalloc((unsigned) (offsetof(Ring, command) + length));

    ringPtr->header.proc = Answer;
    ringPtr->interp = (Tcl_Interp *) interpAddr;
    memcpy(ringPtr->command, command, length);
    Tcl_ThreadQueueEvent((Tcl_ThreadId) thread, &ringPtr->header, TCL_QUEUE_TAIL);
    Tcl_ThreadAlert((Tcl_ThreadId) thread);
}

static int
IsRingFor(
    Tcl_Event *evPtr,
    ClientData clientData)
{
    return evPtr->proc == Answer && ((Ring *) evPtr)->interp == clientData;
}

/*
 * TclchanHush --
 *	Forget what TclchanRing has queued for an interpreter. To be called on its thread, before
 *	its end, and when nobody rings any more.
 */
static void
TclchanHush(
    uintptr_t interpAddr)
{
    Tcl_DeleteEvents(IsRingFor, (ClientData) interpAddr);
}
