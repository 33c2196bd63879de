/*
 * fault.c --
 *	Faults to order (-Dtesting=true), in whatever engine runs: the next so many ops of a kind
 *	fail with a given error, or find the engine busy. What meets its fault never reaches the
 *	engine.
 *
 *	With the first order the thread's engine gets a type of its own: that of the engine, with
 *	the procedures below in place of those through which ops come and go. The engine's own
 *	structure is untouched.
 */

#include "engine.h"

#define FAULT_HELD 64		/* Failed ops that nobody has reaped; more reach the engine. */

static IOCP_THREAD_LOCAL struct {
    IocpEngineType type;
    const IocpEngineType *realPtr;	/* NULL: nothing was ordered yet. */
    struct {
	int skip;		/* So many ops pass, */
	int count;		/* then so many fail. */
	int result;		/* -errno, or IOCP_FAULT_BUSY. */
    } orders[IOCP_FAULT_KINDS];
    int met;			/* Faults since IocpFaultsEnd. */
    int heldCount;
    IocpCompletion held[FAULT_HELD];
} faults;

/*
 * FaultNext --
 *	What the next op of a kind meets: -errno, IOCP_FAULT_BUSY or 0.
 */
static int
FaultNext(int kind)
{
    if (faults.orders[kind].count == 0) {
	return 0;
    }
    if (faults.orders[kind].skip > 0) {
	faults.orders[kind].skip--;
	return 0;
    }
    faults.orders[kind].count--;
    faults.met++;
    return faults.orders[kind].result;
}

static IocpSubmit
FaultSubmit(IocpEngine *enginePtr, IocpOp *opPtr)
{
    int result = faults.heldCount < FAULT_HELD ? FaultNext((int)opPtr->kind) : 0;

    if (result == 0) {
	return faults.realPtr->submitProc(enginePtr, opPtr);
    }
    if (result == IOCP_FAULT_BUSY) {
	return IOCP_BUSY;
    }
    opPtr->engineFlags = 0;
    faults.held[faults.heldCount++] = (IocpCompletion){.opPtr = opPtr, .result = result};
    return IOCP_QUEUED;
}

static void
FaultCancel(IocpEngine *enginePtr, IocpOp *opPtr)
{
    for (int i = 0; i < faults.heldCount; i++) {
	if (faults.held[i].opPtr == opPtr) {
	    return;
	}
    }
    faults.realPtr->cancelProc(enginePtr, opPtr);
}

static int
FaultSendNow(IocpEngine *enginePtr, IocpHandle *handlePtr, const char *data, size_t size)
{
    int result = FaultNext(IOCP_FAULT_SEND_NOW);

    if (result == 0) {
	return faults.realPtr->sendNowProc(enginePtr, handlePtr, data, size);
    }
    return result == IOCP_FAULT_BUSY ? -EAGAIN : result;
}

static int
FaultReap(IocpEngine *enginePtr, IocpCompletion *completions, int max)
{
    int count = faults.heldCount < max ? faults.heldCount : max;

    memcpy(completions, faults.held, (size_t)count * sizeof(*completions));
    faults.heldCount -= count;
    memmove(faults.held, faults.held + count, (size_t)faults.heldCount * sizeof(*completions));
    if (count == max) {
	return count;
    }
    return count + faults.realPtr->reapProc(enginePtr, completions + count, max - count);
}

static int
FaultWait(IocpEngine *enginePtr, int64_t timeoutNs)
{
    return faults.realPtr->waitProc(enginePtr, faults.heldCount > 0 ? 0 : timeoutNs);
}

static int
FaultArm(IocpEngine *enginePtr, int armed)
{
    return faults.realPtr->armProc(enginePtr, armed) || (armed && faults.heldCount > 0);
}

static void
FaultClose(IocpEngine *enginePtr)
{
    faults.realPtr->closeProc(enginePtr);
    memset(&faults, 0, sizeof(faults));
}

/*
 * IocpFaultOrder --
 *	Let skip ops of the kind pass on the calling thread's engine, and the next count of them
 *	fail. Takes the place of an earlier order for that kind.
 */
void
IocpFaultOrder(IocpEngine *enginePtr, int kind, int result, int count, int skip)
{
    if (faults.realPtr == NULL) {
	faults.realPtr = enginePtr->typePtr;
	faults.type = *faults.realPtr;
	faults.type.closeProc = FaultClose;
	faults.type.submitProc = FaultSubmit;
	faults.type.cancelProc = FaultCancel;
	faults.type.sendNowProc = FaultSendNow;
	faults.type.reapProc = FaultReap;
	faults.type.waitProc = FaultWait;
	faults.type.armProc = FaultArm;
	enginePtr->typePtr = &faults.type;
    }
    faults.orders[kind].result = result;
    faults.orders[kind].count = count;
    faults.orders[kind].skip = skip;
}

/*
 * IocpFaultsEnd --
 *	Forget what is ordered.
 * Results:
 *	How many ops have failed to order since the last call.
 */
int
IocpFaultsEnd(void)
{
    int met = faults.met;

    memset(faults.orders, 0, sizeof(faults.orders));
    faults.met = 0;
    return met;
}
