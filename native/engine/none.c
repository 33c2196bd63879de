/*
 * none.c --
 *	What channels have where no engine can be.
 *
 *	A forked child shares its parent's rings and epoll instances: whatever it did there, it
 *	would do to the parent. So its copies of the channels can only be written to, by whoever
 *	waits for the kernel himself, and closed; new ones get an engine of their own.
 *
 *	A thread that a channel comes to may have no descriptors left to open an engine with.
 */

#include "engine.h"

#define NONE_PAUSE (100 * IOCP_MS)

static void
NoneHandle(IocpEngine *enginePtr, IocpHandle *handlePtr)
{
    (void)enginePtr;
    (void)handlePtr;
}

static IocpSubmit
NoneSubmit(IocpEngine *enginePtr, IocpOp *opPtr)
{
    (void)enginePtr;
    (void)opPtr;
    return IOCP_BUSY;
}

static void
NoneCancel(IocpEngine *enginePtr, IocpOp *opPtr)
{
    (void)enginePtr;
    (void)opPtr;
}

static int
NoneReap(IocpEngine *enginePtr, IocpCompletion *completions, int max)
{
    (void)enginePtr;
    (void)completions;
    (void)max;
    return 0;
}

static int
NoneWait(IocpEngine *enginePtr, int64_t timeoutNs)
{
    (void)enginePtr;
    IocpSleep(timeoutNs < 0 || timeoutNs > NONE_PAUSE ? NONE_PAUSE : timeoutNs);
    return 0;
}

static void
NoneAttend(IocpEngine *enginePtr, int fd)
{
    (void)enginePtr;
    (void)fd;
}

static int
NoneArm(IocpEngine *enginePtr, int armed)
{
    (void)enginePtr;
    (void)armed;
    return 0;
}

static int
NoneNotifyFd(IocpEngine *enginePtr)
{
    (void)enginePtr;
    return -1;
}

static void
NoneAlert(IocpEngine *enginePtr, IocpAlertProc *proc, void *clientData)
{
    (void)enginePtr;
    (void)proc;
    (void)clientData;
}

static void
NoneNothing(IocpEngine *enginePtr)
{
    (void)enginePtr;
}

static void
NoneRelease(IocpEngine *enginePtr, IocpBuf *bufPtr)
{
    (void)enginePtr;
    (void)bufPtr;
}

static const IocpEngineType noneEngine = {
    .typeName = "none",
    .version = IOCP_ENGINE_VERSION,
    .closeProc = NoneNothing,
    .attachProc = NoneHandle,
    .detachProc = NoneHandle,
    .submitProc = NoneSubmit,
    .cancelProc = NoneCancel,
    .sendNowProc = IocpSendNow,
    .pushProc = IocpPush,
    .reapProc = NoneReap,
    .waitProc = NoneWait,
    .attendProc = NoneAttend,
    .armProc = NoneArm,
    .notifyFdProc = NoneNotifyFd,
    .alertProc = NoneAlert,
    .notifiedProc = NoneNothing,
    .releaseProc = NoneRelease,
    .forkedProc = NoneNothing
};

IocpEngine iocpNoEngine = {.typePtr = &noneEngine};
