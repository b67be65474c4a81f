/** HTTP, as prisma-client-py 0.11 speaks it with Prisma's engine, for whoever may enter the folder of a Unix socket. */

import { createServer } from 'node:http'

import { answer, batchAnswer, engineError, errorAnswer } from './answer.js'
import { translate, TranslationError } from './translation.js'

/**
 * @typedef {object} Rooms
 * @property {import('./engine.js').Engine} engine
 * @property {import('./transaction.js').Transactions} transactions
 * @property {import('./schema.js').Models} models
 *
 * @typedef {import('node:http').IncomingMessage} Request
 * @typedef {{ query: string }} Question
 */

const MAX_BODY_BYTES = 64 * 1024 * 1024
/** httpx gives a connection up after 5 s without a request: the engine must never be the first to. */
const KEEP_ALIVE_MS = 60_000

class Refusal extends Error {
  /** @param {number} status @param {string} message */
  constructor(status, message) {
    super(message)
    this.status = status
  }
}

/**
 * @param {{ path: string } | { fd: number }} socket to make, or one that listens already
 * @param {Rooms} rooms
 * @returns {Promise<import('node:http').Server>} answering
 */
export function listen(socket, rooms) {
  const server = createServer({ keepAliveTimeout: KEEP_ALIVE_MS }, async (request, response) => {
    const { status, body } = await respond(request, rooms).catch(refused)
    response.shouldKeepAlive = server.listening // or who is asked last keeps a stopping engine waiting
    response.writeHead(status, { 'Content-Type': 'application/json' }).end(body)
  })
  return new Promise((resolve, reject) => server.once('error', reject).listen(socket, () => resolve(server)))
}

/** @param {Error} error */
function refused(error) {
  if (error instanceof Refusal) return { status: error.status, body: JSON.stringify({ error: error.message }) }
  console.error(`query-engine: ${place(error)}`)
  return { status: 500, body: '{"error":"internal error"}' }
}

/** @param {NodeJS.ErrnoException} error @returns {string} what and where it is, without its message, which may hold values */
export function place(error) {
  return `${error.code ?? error.name}${error.stack?.match(/\n\s+at .*/)?.[0].trimEnd() ?? ''}`
}

/** @param {Request} request @param {Rooms} rooms */
async function respond(request, rooms) {
  const [, id, end] = request.url?.match(/^\/transaction\/([^/]+)\/(commit|rollback)$/) ?? []
  switch (`${request.method} ${end ? `/transaction/:id/${end}` : request.url}`) {
    case 'GET /status':
      return { status: 200, body: '{"status":"ok"}' }
    case 'POST /':
      return { status: 200, body: await query(await json(request), request.headers['x-transaction-id'], rooms) }
    case 'POST /transaction/start':
      return { status: 200, body: transactionAnswer(await rooms.transactions.start(await json(request))) }
    case 'POST /transaction/:id/commit':
      return { status: 200, body: transactionAnswer(await rooms.transactions.commit(id)) }
    case 'POST /transaction/:id/rollback':
      return { status: 200, body: transactionAnswer(await rooms.transactions.rollback(id)) }
    default:
      throw new Refusal(404, 'not found')
  }
}

/** @param {Request} request */
async function json(request) {
  const chunks = []
  let size = 0
  try {
    for await (const chunk of request) {
      size += chunk.length
      if (size > MAX_BODY_BYTES) throw new Refusal(413, `the body is larger than ${MAX_BODY_BYTES} bytes`)
      chunks.push(chunk)
    }
    return JSON.parse(Buffer.concat(chunks).toString('utf8'))
  } catch (error) {
    throw error instanceof Refusal ? error : new Refusal(400, 'the body is not JSON')
  }
}

/**
 * @param {Question & { batch?: Question[], transaction?: boolean }} body
 * @param {string | string[] | undefined} id of a transaction
 * @param {Rooms} rooms
 */
async function query(body, id, { engine, transactions, models }) {
  const transaction = id?.toString()
  const refusal = transaction && transactions.refusal(transaction)
  if (refusal) return transactionAnswer(refusal)
  try {
    if (!body.batch) {
      const translation = translate(body.query, models)
      return answer(await engine.query(translation.query, transaction), translation)
    }
    const translations = body.batch.map((each) => translate(each.query, models))
    const batch = { batch: translations.map((each) => each.query), transaction: body.transaction ? {} : null }
    return batchAnswer(await engine.query(batch, transaction), translations)
  } catch (error) {
    if (!(error instanceof TranslationError)) throw error
    const message = `Failed to validate the query: ${error.message}.`
    return errorAnswer([engineError({ is_panic: false, message, meta: {}, error_code: 'P2009' })])
  }
}

/** @param {object} result of a transaction's start or end: an error among them has a code */
function transactionAnswer(result) {
  if (!('error_code' in result || 'is_panic' in result)) return JSON.stringify(result)
  const error = /** @type {import('./engine.js').UserFacingError} */ (result)
  return errorAnswer([engineError(error)])
}
