/** The types of the fields of schema.prisma, as Prisma's own parser reads them. */

import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'

/**
 * @typedef {{ type: string, relation: boolean, list: boolean }} Field type: a scalar's, an enum's or a model's name
 * @typedef {Map<string, Map<string, Field>>} Models fields by name, by model
 */

/**
 * Read in a thread of its own, whose memory goes with it: the parser needs 100 MB.
 *
 * @param {string} schema the text of schema.prisma
 * @returns {Promise<Models>}
 */
export function fieldTypes(schema) {
  const worker = new Worker(new URL(import.meta.url), { workerData: schema })
  return new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))
}

/** @param {string} schema @returns {Promise<Models>} */
async function read(schema) {
  const { get_dmmf } = await import('@prisma/prisma-schema-wasm')
  const { datamodel } = JSON.parse(get_dmmf(JSON.stringify({ prismaSchema: schema })))
  const field = ({ name, type, kind, isList }) => [name, { type, relation: kind === 'object', list: isList }]
  return new Map(datamodel.models.map(({ name, fields }) => [name, new Map(fields.map(field))]))
}

if (!isMainThread) parentPort?.postMessage(await read(workerData))
