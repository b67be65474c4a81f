/** Interactive transactions: which there are. The engine opens, expires and ends them, but panics at an id unknown to it. */

import { setTimeout as delay } from 'node:timers/promises'

/**
 * @typedef {import('./engine.js').UserFacingError} UserFacingError
 * @typedef {{ max_wait: number, timeout: number, isolation_level?: string }} Options durations in milliseconds
 */

/** @type {UserFacingError} */
const LATE = failure('Unable to start a transaction in the given time.')

/** The engine remembers the last 100 that ended, and tells how each did. */
const REMEMBERED = 100

export class Transactions {
  #engine
  /** @type {Set<string>} those that the engine knows, the last to have begun or ended last */
  #known = new Set()
  /** @type {string[]} */
  #ended = []

  /** @param {import('./engine.js').Engine} engine */
  constructor(engine) {
    this.#engine = engine
  }

  /** @param {Options} options @returns {Promise<{ id?: string } | UserFacingError>} its id, or why it has none */
  async start(options) {
    // As WebAssembly the engine does not look at max_wait.
    const waited = new AbortController()
    const starting = this.#start(options)
    const late = delay(options.max_wait, LATE, { signal: waited.signal }).catch(() => LATE)
    const first = await Promise.race([starting, late])
    waited.abort()
    if (first === LATE) starting.then(({ id }) => id && this.rollback(id))
    return first
  }

  /** @param {Options} options @returns {Promise<{ id?: string }>} */
  async #start(options) {
    const started = JSON.parse(await this.#engine.startTransaction(options))
    if (started.id) {
      this.#known.add(started.id)
      setTimeout(() => this.#end(started.id), options.timeout).unref()
    }
    return started
  }

  /** @param {string} id @returns {Promise<{} | UserFacingError>} */
  async commit(id) {
    return this.refusal(id) ?? this.#ending(id, await this.#engine.commitTransaction(id))
  }

  /** @param {string} id @returns {Promise<{} | UserFacingError>} */
  async rollback(id) {
    return this.refusal(id) ?? this.#ending(id, await this.#engine.rollbackTransaction(id))
  }

  /** @param {string} id @returns {UserFacingError | undefined} why no query can be run in the transaction */
  refusal(id) {
    if (this.#known.has(id)) return undefined
    return failure('Transaction not found. It has never been, or has ended long ago.')
  }

  /** @param {string} id @param {string} text */
  #ending(id, text) {
    this.#end(id)
    return JSON.parse(text)
  }

  /** @param {string} id */
  #end(id) {
    if (this.#ended.includes(id)) return
    this.#ended.push(id)
    if (this.#ended.length > REMEMBERED / 2) this.#known.delete(/** @type {string} */ (this.#ended.shift()))
  }
}

/** @param {string} error @returns {UserFacingError} */
function failure(error) {
  return { is_panic: false, message: `Transaction API error: ${error}`, meta: { error }, error_code: 'P2028' }
}
