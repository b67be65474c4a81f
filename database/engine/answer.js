/** From the answers of Prisma's JSON protocol to those that prisma-client-py reads. */

import { recognise } from './outage.js'

/**
 * @typedef {import('./engine.js').EngineError} EngineError
 * @typedef {import('./engine.js').UserFacingError} UserFacingError
 * @typedef {import('./translation.js').Translation} Translation
 */

/**
 * The answer to one query. Text becomes text: a number stays as the engine wrote it, where JavaScript would round it.
 *
 * @param {string} text the engine's
 * @param {Translation} translation
 */
export function answer(text, { name, alias }) {
  const start = `{"data":{"${name}":`
  if (!text.startsWith(start)) return errorAnswer(JSON.parse(text).errors)
  const value = text.slice(start.length, -'}}'.length)
  return `{"data":{${JSON.stringify(alias)}:${name === 'queryRaw' ? rawRows(value) : untagged(value)}}}`
}

/**
 * The answer to a batch.
 *
 * @param {string} text the engine's
 * @param {Translation[]} translations
 */
export function batchAnswer(text, translations) {
  const { batchResult, errors } = JSON.parse(text)
  if (errors) return errorAnswer(errors)
  const answers = batchResult.map((each, index) => answer(JSON.stringify(each), translations[index]))
  return `{"batchResult":[${answers.join(',')}]}`
}

/** @param {EngineError[]} errors */
export function errorAnswer(errors) {
  return JSON.stringify({ errors: errors.map(({ user_facing_error }) => engineError(user_facing_error)) })
}

/**
 * What the engine says of an error to its developers may quote the query, so what it says to users stands in both places.
 *
 * @param {UserFacingError} error
 * @returns {EngineError}
 */
export function engineError(error) {
  const { meta, ...rest } = recognise(error)
  // prisma-client-py knows a transaction that expired by how its error begins, and trips over a meta that is null.
  return { error: meta?.error ?? rest.message, user_facing_error: meta ? { ...rest, meta } : rest }
}

const TAG = '{"$type":"'
const VALUE = '","value":'

/**
 * Every {"$type": ..., "value": "..."} becomes its value, a string. The marks are found by their quotes: within a string of
 * JSON none stands without a backslash before it.
 *
 * @param {string} text
 */
function untagged(text) {
  const parts = []
  let from = 0
  for (let at = text.indexOf(TAG); at >= 0; at = text.indexOf(TAG, from)) {
    const value = text.indexOf(VALUE, at) + VALUE.length
    const end = stringEnd(text, value)
    parts.push(text.slice(from, at), text.slice(value, end))
    from = end + '}'.length
  }
  return parts.join('') + text.slice(from)
}

/**
 * @param {string} text
 * @param {number} start of a string in JSON
 * @returns {number} the place after its closing quote
 */
function stringEnd(text, start) {
  for (let quote = text.indexOf('"', start + 1); ; quote = text.indexOf('"', quote + 1)) {
    let backslashes = 0
    while (text[quote - 1 - backslashes] === '\\') backslashes += 1
    if (backslashes % 2 === 0) return quote + 1
  }
}

const STRING_OR_NUMBER = /"[^"\\]*(?:\\[^][^"\\]*)*"|-?\d[\d.eE+-]*/g
const KEPT = /"\\u0000(-?\d[\d.eE+-]*)"/g

/**
 * Rows of a raw query as older engines wrote them: each row an object, each value with its type. Numbers that
 * JavaScript would write otherwise pass as strings, behind a character that PostgreSQL's text cannot hold.
 *
 * @param {string} text columns, types and rows
 */
function rawRows(text) {
  const keep = (token) => (token[0] === '"' || String(Number(token)) === token ? token : `"\\u0000${token}"`)
  const { columns, types, rows } = JSON.parse(text.replace(STRING_OR_NUMBER, keep))
  const object = (row) => Object.fromEntries(columns.map((name, index) => [name, typed(row[index], types[index])]))
  return JSON.stringify(rows.map(object)).replace(KEPT, '$1')
}

/** @param {unknown} value @param {string} type @returns {object} */
function typed(value, type) {
  if (value === null) return { prisma__type: 'null', prisma__value: null }
  if (!type.endsWith('-array')) return { prisma__type: type, prisma__value: value }
  const element = type.slice(0, -'-array'.length)
  return { prisma__type: 'array', prisma__value: /** @type {unknown[]} */ (value).map((each) => typed(each, element)) }
}
