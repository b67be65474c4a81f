/** Prisma's query engine, in the WebAssembly build that @prisma/client carries. */

import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'

import { bindAdapter } from '@prisma/driver-adapter-utils'

const require = createRequire(import.meta.url)
const RUNTIME = '@prisma/client/runtime/query_engine_bg.postgresql'

/**
 * @typedef {{ is_panic: boolean, message: string, meta?: Record<string, any>, error_code?: string, batch_request_idx?: number }} UserFacingError
 * @typedef {{ error: string, user_facing_error: UserFacingError }} EngineError
 */

/** @returns {Promise<any>} what the WebAssembly exports */
async function load() {
  const runtime = require(`${RUNTIME}.js`)
  const module = await WebAssembly.compile(await readFile(require.resolve(`${RUNTIME}.wasm`)))
  runtime.__wbg_set_wasm((await WebAssembly.instantiate(module, { './query_engine_bg.js': runtime })).exports)
  return runtime
}

export class Engine {
  #engine

  /** @param {any} engine the WebAssembly's QueryEngine */
  constructor(engine) {
    this.#engine = engine
  }

  /**
   * An engine over an adapter. The database need not answer yet.
   *
   * @param {string} schema the text of schema.prisma
   * @param {import('./adapter.js').Adapter} adapter
   */
  static async start(schema, adapter) {
    const { QueryEngine } = await load()
    const options = {
      datamodel: schema,
      engineProtocol: 'json',
      logLevel: 'error',
      logQueries: false,
      configDir: '.',
      env: {},
      ignoreEnvVarErrors: true,
      datasourceOverrides: {},
    }
    // What the engine logs is what it answers, and has queries in it.
    const engine = new QueryEngine(options, () => {}, bindAdapter(adapter))
    await engine.connect('{}')
    return new Engine(engine)
  }

  /**
   * Run a query, or a batch of them, of Prisma's JSON protocol.
   *
   * @param {object} query
   * @param {string} [transaction] the id of an open one
   * @returns {Promise<string>} an object with data, batchResult or errors
   */
  query(query, transaction) {
    return this.#engine.query(JSON.stringify(query), '{}', transaction)
  }

  /**
   * @param {{ max_wait: number, timeout: number, isolation_level?: string }} options durations in milliseconds
   * @returns {Promise<string>} its id, or a UserFacingError
   */
  startTransaction(options) {
    return this.#engine.startTransaction(JSON.stringify(options), '{}')
  }

  /**
   * @param {string} id of a transaction that the engine knows: another makes it panic
   * @returns {Promise<string>} an empty object, or a UserFacingError
   */
  commitTransaction(id) {
    return this.#engine.commitTransaction(id, '{}')
  }

  /**
   * @param {string} id as for commitTransaction
   * @returns {Promise<string>} an empty object, or a UserFacingError
   */
  rollbackTransaction(id) {
    return this.#engine.rollbackTransaction(id, '{}')
  }
}
