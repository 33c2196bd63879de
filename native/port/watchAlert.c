/*
 * watchAlert.c --
 *	Guest mode where Tcl's notifier watches no descriptors: the engine has another thread alert
 *	it. The event source (iocpEvent.c) does the rest, as after each wait.
 */

#include "../iocpInt.h"

/*
 * Alert --
 *	Called by a thread of the engine's. Tcl looks the thread's id up in a table: one that has
 *	ended does no harm.
 */
static void
Alert(void *clientData)
{
    Tcl_ThreadAlert((Tcl_ThreadId)clientData);
}

/*
 * IocpEventWatch, IocpEventUnwatch --
 *	Tcl's notifier is to hear of the engine's completions, if there is an engine.
 */
void
IocpEventWatch(IocpThread *threadPtr)
{
    threadPtr->enginePtr->typePtr->alertProc(threadPtr->enginePtr, Alert,
	    Tcl_GetCurrentThread());
}

void
IocpEventUnwatch(IocpThread *threadPtr)
{
    threadPtr->enginePtr->typePtr->alertProc(threadPtr->enginePtr, NULL, NULL);
}
