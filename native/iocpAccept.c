/*
 * iocpAccept.c --
 *	The script of socket2 -server: which interpreter runs it, and what becomes of it when that
 *	interpreter or the listener goes.
 */

#include "iocpInt.h"

/*
 * What a listener's accept procedure needs. It goes with the channel (IocpAcceptScriptFree); interp
 * becomes NULL if the interpreter goes first (InterpDeleted). Either may come first when an
 * interpreter that owns the channel is deleted, hence the links to both sides: no look-up is
 * needed to get off the list. And either may be in another thread, if the listener has been
 * transferred: the mutex guards the links.
 */
struct IocpAcceptScript {
    Tcl_Interp *interp;
    Tcl_ThreadId threadId;	/* The thread of interp. */
    IocpAcceptScript *nextPtr;	/* The others of the interpreter. */
    IocpAcceptScript **linkPtr;	/* What points to this one; NULL: not on a list any more. */
    char script[];
};

#define ASSOC_KEY "iocp::acceptScripts"

static IocpMutex acceptMutex = IOCP_MUTEX_INIT;

/*
 * InterpDeleted --
 *	The interpreter goes: its listeners that live on close what they accept.
 */
static void
InterpDeleted(void *clientData, Tcl_Interp *interp)
{
    IocpAcceptScript **listPtr = clientData;

    (void)interp;
    IocpMutexLock(&acceptMutex);
    for (IocpAcceptScript *acceptPtr = *listPtr; acceptPtr != NULL;
	    acceptPtr = acceptPtr->nextPtr) {
	acceptPtr->interp = NULL;
	acceptPtr->linkPtr = NULL;
    }
    IocpMutexUnlock(&acceptMutex);
    Tcl_Free((char *)listPtr);
}

void
IocpAcceptScriptFree(void *clientData)
{
    IocpAcceptScript *acceptPtr = clientData;

    IocpMutexLock(&acceptMutex);
    if (acceptPtr->linkPtr != NULL) {
	*acceptPtr->linkPtr = acceptPtr->nextPtr;
	if (acceptPtr->nextPtr != NULL) {
	    acceptPtr->nextPtr->linkPtr = acceptPtr->linkPtr;
	}
    }
    IocpMutexUnlock(&acceptMutex);
    Tcl_Free((char *)acceptPtr);
}

IocpAcceptScript *
IocpAcceptScriptNew(Tcl_Interp *interp, const char *script)
{
    IocpAcceptScript *acceptPtr = (IocpAcceptScript *)Tcl_Alloc(
	    (unsigned)(sizeof(IocpAcceptScript) + strlen(script) + 1));
    IocpAcceptScript **listPtr = Tcl_GetAssocData(interp, ASSOC_KEY, NULL);

    if (listPtr == NULL) {
	listPtr = (IocpAcceptScript **)Tcl_Alloc(sizeof(IocpAcceptScript *));
	*listPtr = NULL;
	Tcl_SetAssocData(interp, ASSOC_KEY, InterpDeleted, listPtr);
    }
    acceptPtr->interp = interp;
    acceptPtr->threadId = Tcl_GetCurrentThread();
    strcpy(acceptPtr->script, script);
    IocpMutexLock(&acceptMutex);
    acceptPtr->nextPtr = *listPtr;
    acceptPtr->linkPtr = listPtr;
    if (acceptPtr->nextPtr != NULL) {
	acceptPtr->nextPtr->linkPtr = &acceptPtr->nextPtr;
    }
    *listPtr = acceptPtr;
    IocpMutexUnlock(&acceptMutex);
    return acceptPtr;
}

/*
 * IocpAcceptProc --
 *	Call the script of socket2 -server with the channel, the address and the port. The script
 *	belongs to the thread that opened the listener: in another one, nobody can take the
 *	connection.
 */
void
IocpAcceptProc(void *clientData, Tcl_Channel channel, char *address, int port)
{
    IocpAcceptScript *acceptPtr = clientData;
    Tcl_Interp *interp = acceptPtr->interp;
    Tcl_Obj *commandPtr;
    int result;

    if (acceptPtr->threadId != Tcl_GetCurrentThread() || interp == NULL) {
	Tcl_Close(NULL, channel);
	return;
    }
    Tcl_Preserve(interp);
    Tcl_RegisterChannel(interp, channel);
    Tcl_RegisterChannel(NULL, channel);	/* The script may close it. */
    commandPtr = Tcl_ObjPrintf("%s %s %s %d", acceptPtr->script, Tcl_GetChannelName(channel),
	    address, port);
    Tcl_IncrRefCount(commandPtr);
    result = Tcl_EvalObjEx(interp, commandPtr, TCL_EVAL_GLOBAL | TCL_EVAL_DIRECT);
    Tcl_DecrRefCount(commandPtr);
    if (result != TCL_OK) {
	Tcl_BackgroundException(interp, result);
	Tcl_UnregisterChannel(interp, channel);
    }
    Tcl_UnregisterChannel(NULL, channel);
    Tcl_Release(interp);
}
