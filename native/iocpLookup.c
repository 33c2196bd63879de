/*
 * iocpLookup.c --
 *	socket2 -lookup: the addresses of a name, the name of an address; at once, or told to a
 *	script once another thread has found them.
 */

#include "iocpInt.h"

/*
 * A lookup that a script waits for. Owner: its interpreter, in whose list it is, until the script
 * is called. All in one thread.
 */
typedef struct Lookup {
    Tcl_Interp *interp;
    Tcl_Obj *commandPtr;	/* A list. */
    char *name;			/* As it was asked for. */
    IocpResolve *resolvePtr;
    struct Lookup *nextPtr;
    struct Lookup **linkPtr;	/* What points to this one. */
} Lookup;

#define ASSOC_KEY "iocp::lookups"

static void
Destroy(Lookup *lookupPtr)
{
    *lookupPtr->linkPtr = lookupPtr->nextPtr;
    if (lookupPtr->nextPtr != NULL) {
	lookupPtr->nextPtr->linkPtr = lookupPtr->linkPtr;
    }
    if (lookupPtr->resolvePtr != NULL) {
	IocpResolveFree(lookupPtr->resolvePtr);
    }
    Tcl_DecrRefCount(lookupPtr->commandPtr);
    free(lookupPtr->name);
    free(lookupPtr);
}

/*
 * InterpDeleted --
 *	Nobody waits for the answers any more.
 */
static void
InterpDeleted(void *clientData, Tcl_Interp *interp)
{
    Lookup **listPtr = clientData;

    (void)interp;
    while (*listPtr != NULL) {
	Destroy(*listPtr);
    }
    Tcl_Free((char *)listPtr);
}

/*
 * AddressList --
 *	The addresses in the resolver's order, each once.
 */
static Tcl_Obj *
AddressList(const IocpQuery *queryPtr)
{
    Tcl_Obj *listPtr = Tcl_NewListObj(0, NULL), *seenPtr = Tcl_NewDictObj();

    for (const struct addrinfo *addrPtr = queryPtr->listPtr; addrPtr != NULL;
	    addrPtr = addrPtr->ai_next) {
	char host[NI_MAXHOST];
	Tcl_Obj *hostPtr, *foundPtr;

	if (getnameinfo(addrPtr->ai_addr, (socklen_t)addrPtr->ai_addrlen, host, sizeof(host),
		NULL, 0, NI_NUMERICHOST) != 0) {
	    continue;
	}
	hostPtr = Tcl_NewStringObj(host, -1);
	Tcl_IncrRefCount(hostPtr);
	Tcl_DictObjGet(NULL, seenPtr, hostPtr, &foundPtr);
	if (foundPtr == NULL) {
	    Tcl_DictObjPut(NULL, seenPtr, hostPtr, Tcl_NewObj());
	    Tcl_ListObjAppendElement(NULL, listPtr, hostPtr);
	}
	Tcl_DecrRefCount(hostPtr);
    }
    Tcl_DecrRefCount(seenPtr);
    return listPtr;
}

/*
 * Answer --
 *	What an answered query says of a name: a list of addresses, or of the one name of an
 *	address; or a message.
 */
static Tcl_Obj *
Answer(const char *name, const IocpQuery *queryPtr)
{
    Tcl_Obj *listPtr;
    Tcl_DString text;

    if (queryPtr->result != 0) {
	return Tcl_ObjPrintf("couldn't look up \"%s\": %s", name,
		queryPtr->result == EAI_SYSTEM ? Tcl_ErrnoMsg(queryPtr->error)
		: gai_strerror(queryPtr->result));
    }
    if (queryPtr->name == NULL) {
	return AddressList(queryPtr);
    }
    listPtr = Tcl_NewListObj(0, NULL);
    Tcl_ExternalToUtfDString(NULL, queryPtr->name, -1, &text);
    Tcl_ListObjAppendElement(NULL, listPtr, Tcl_NewStringObj(Tcl_DStringValue(&text), -1));
    Tcl_DStringFree(&text);
    return listPtr;
}

/*
 * Resolved --
 *	Called from the event loop: the answer is there. Call the script with "ok" and the list, or
 *	with "error" and the message.
 */
static void
Resolved(void *clientData)
{
    Lookup *lookupPtr = clientData;
    Tcl_Interp *interp = lookupPtr->interp;
    Tcl_Obj *commandPtr = Tcl_DuplicateObj(lookupPtr->commandPtr);
    IocpQuery query;
    int result;

    IocpResolveTake(lookupPtr->resolvePtr, &query);
    Tcl_IncrRefCount(commandPtr);
    Tcl_ListObjAppendElement(NULL, commandPtr,
	    Tcl_NewStringObj(query.result == 0 ? "ok" : "error", -1));
    Tcl_ListObjAppendElement(NULL, commandPtr, Answer(lookupPtr->name, &query));
    IocpQueryFree(&query);
    Destroy(lookupPtr);
    Tcl_Preserve(interp);
    result = Tcl_EvalObjEx(interp, commandPtr, TCL_EVAL_GLOBAL | TCL_EVAL_DIRECT);
    if (result != TCL_OK) {
	Tcl_BackgroundException(interp, result);
    }
    Tcl_Release(interp);
    Tcl_DecrRefCount(commandPtr);
}

/*
 * Start --
 *	Have the query answered by another thread.
 */
static int
Start(Tcl_Interp *interp, const char *name, IocpQuery *queryPtr, Tcl_Obj *commandPtr)
{
    Lookup **listPtr = Tcl_GetAssocData(interp, ASSOC_KEY, NULL);
    Lookup *lookupPtr = IOCP_OUT_OF_MEMORY() ? NULL : calloc(1, sizeof(Lookup));

    if (listPtr == NULL) {
	listPtr = (Lookup **)Tcl_Alloc(sizeof(Lookup *));
	*listPtr = NULL;
	Tcl_SetAssocData(interp, ASSOC_KEY, InterpDeleted, listPtr);
    }
    if (lookupPtr != NULL) {
	lookupPtr->name = strdup(name);
	lookupPtr->resolvePtr = lookupPtr->name == NULL ? NULL
		: IocpResolveStart(queryPtr, 1, Resolved, lookupPtr);
    }
    if (lookupPtr == NULL || lookupPtr->resolvePtr == NULL) {
	if (lookupPtr != NULL) {
	    free(lookupPtr->name);
	    free(lookupPtr);
	}
	Tcl_SetErrno(ENOMEM);
	Tcl_SetObjResult(interp, Tcl_ObjPrintf("couldn't look up \"%s\": %s", name,
		Tcl_PosixError(interp)));
	return TCL_ERROR;
    }
    lookupPtr->interp = interp;
    lookupPtr->commandPtr = commandPtr;
    Tcl_IncrRefCount(commandPtr);
    lookupPtr->nextPtr = *listPtr;
    lookupPtr->linkPtr = listPtr;
    if (lookupPtr->nextPtr != NULL) {
	lookupPtr->nextPtr->linkPtr = &lookupPtr->nextPtr;
    }
    *listPtr = lookupPtr;
    return TCL_OK;
}

/*
 * IocpLookup --
 *	Look a name up for a protocol. Without commandPtr (NULL), wait and leave the answer in
 *	interp; with it, which has to be a list, return at once: it gets the answer from the event
 *	loop.
 */
int
IocpLookup(Tcl_Interp *interp, const char *name, IocpProtocol protocol, Tcl_Obj *commandPtr)
{
    IocpQuery query;
    Tcl_Size length;
    int result;

    if (commandPtr != NULL && Tcl_ListObjLength(interp, commandPtr, &length) != TCL_OK) {
	return TCL_ERROR;
    }
    IocpQueryInit(&query, interp, name, 0, 0, protocol);
    query.wantName = 1;
    if (commandPtr != NULL) {
	result = Start(interp, name, &query, commandPtr);
	IocpQueryFree(&query);
	return result;
    }
    IocpQueryRun(&query);
    if (query.result == EAI_SYSTEM) {
	Tcl_SetErrno(query.error);
	Tcl_PosixError(interp);
    } else if (query.result != 0) {
	Tcl_DString code;

	Tcl_DStringInit(&code);
	IocpQueryErrorCode(&code, query.result);
	Tcl_SetObjErrorCode(interp, Tcl_NewStringObj(Tcl_DStringValue(&code), -1));
	Tcl_DStringFree(&code);
    }
    Tcl_SetObjResult(interp, Answer(name, &query));
    result = query.result == 0 ? TCL_OK : TCL_ERROR;
    IocpQueryFree(&query);
    return result;
}
