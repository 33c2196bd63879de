/*
 * watchFile.c --
 *	Guest mode where Tcl's notifier watches descriptors: it watches the engine's.
 */

#include "../iocpInt.h"

static void
NotifyProc(void *clientData, int mask)
{
    IocpThread *threadPtr = clientData;

    (void)mask;
    IocpThreadSettle(threadPtr);
    threadPtr->enginePtr->typePtr->notifiedProc(threadPtr->enginePtr);
}

/*
 * IocpEventWatch, IocpEventUnwatch --
 *	Tcl's own notifier is to watch the engine, if it is that one which runs and there is one.
 */
void
IocpEventWatch(IocpThread *threadPtr)
{
    int fd = threadPtr->enginePtr->typePtr->notifyFdProc(threadPtr->enginePtr);

    if (fd >= 0 && !IocpNotifierHosts()) {
	Tcl_CreateFileHandler(fd, TCL_READABLE, NotifyProc, threadPtr);
    }
}

void
IocpEventUnwatch(IocpThread *threadPtr)
{
    int fd = threadPtr->enginePtr->typePtr->notifyFdProc(threadPtr->enginePtr);

    if (fd >= 0 && !IocpNotifierHosts()) {
	Tcl_DeleteFileHandler(fd);
    }
}
