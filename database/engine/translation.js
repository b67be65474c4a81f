/**
 * From the GraphQL that prisma-client-py writes to Prisma's JSON protocol.
 *
 * The two differ in how they tell a Json value from a string. In GraphQL both are strings, and the engine knows from its
 * schema that one holds JSON; in the JSON protocol the value says so itself, so that whoever writes it must know the schema.
 * Everything else may stay as it is: the engine reads dates, decimals, bytes and large integers from strings.
 */

import { Kind, parse } from 'graphql'

/**
 * @typedef {import('./schema.js').Models} Models
 * @typedef {import('./schema.js').Field} Field
 * @typedef {import('graphql').ValueNode} ValueNode
 * @typedef {import('graphql').FieldNode} FieldNode
 * @typedef {{ query: object, name: string, alias: string }} Translation query: of the JSON protocol; name: what its answer
 *   calls the result; alias: what the asker calls it
 */

/** A query that cannot be translated. Its message quotes nothing of the query. */
export class TranslationError extends Error {}

const OPERATIONS =
  /^(queryRaw|executeRaw|findUnique|findFirst|findMany|createMany|createOne|updateMany|updateOne|deleteMany|deleteOne|upsertOne|aggregate|groupBy)(.*?)(OrThrow)?$/

/** Arguments whose members are fields of the model; the others are numbers, names and sort orders. */
const FILTERS = new Set(['where', 'cursor', 'having'])
const WRITES = new Set(['data', 'create', 'update'])

/** What may stand under a relation in a write, and there may hold an object of where, data, create and update. */
const RELATION_WRITES = new Set([
  'create',
  'connect',
  'disconnect',
  'set',
  'delete',
  'deleteMany',
  'createMany',
  'connectOrCreate',
  'upsert',
  'update',
  'updateMany',
])
const RELATION_WRAPPED = new Set(['createMany', 'connectOrCreate', 'upsert', 'update', 'updateMany'])
const RELATION_FILTERS = new Set(['some', 'every', 'none', 'is', 'isNot'])

/** What may stand under a scalar and holds values of its type. */
const OPERATORS = new Set([
  'equals',
  'not',
  'in',
  'notIn',
  'lt',
  'lte',
  'gt',
  'gte',
  'contains',
  'startsWith',
  'endsWith',
  'has',
  'hasEvery',
  'hasSome',
  'array_contains',
  'array_starts_with',
  'array_ends_with',
  'set',
  'push',
  'increment',
  'decrement',
  'multiply',
  'divide',
  '_min',
  '_max',
  '_sum',
])

/** The deepest nesting that the engine's JSON parser reads. A deeper value makes the engine panic. */
const JSON_DEPTH = 127
const NULLS = new Set(['DbNull', 'JsonNull', 'AnyNull'])

/**
 * @param {string} text a document of one operation with one field
 * @param {Models} models
 * @returns {Translation}
 */
export function translate(text, models) {
  const field = root(text)
  const [, operation, modelName, orThrow = ''] = field.name.value.match(OPERATIONS) ?? refuse('No such operation')
  const fields = modelName === '' ? new Map() : (models.get(modelName) ?? refuse('No such model'))
  return {
    query: {
      modelName: modelName || undefined,
      action: operation + orThrow,
      query: selected(field, fields, models),
    },
    name: field.name.value,
    alias: (field.alias ?? field.name).value,
  }
}

/** @returns {never} */
function refuse(reason) {
  throw new TranslationError(reason)
}

/** @param {string} text @returns {FieldNode} */
function root(text) {
  let document
  try {
    document = parse(text, { noLocation: true })
  } catch {
    refuse('The query is not GraphQL')
  }
  const [operation, ...others] = document.definitions
  if (others.length > 0 || operation.kind !== Kind.OPERATION_DEFINITION) refuse('Not one operation')
  const [field, ...more] = operation.selectionSet.selections
  if (more.length > 0 || field.kind !== Kind.FIELD) refuse('Not one field')
  return field
}

/**
 * @param {FieldNode} node
 * @param {Map<string, Field>} fields of the model that is selected from
 * @param {Models} models
 */
function selected(node, fields, models) {
  const values = new Values(models)
  /** @type {Record<string, unknown>} */
  const selection = {}
  for (const child of node.selectionSet?.selections ?? []) {
    if (child.kind !== Kind.FIELD) refuse('Fragments are not supported')
    const name = child.name.value
    const related = models.get(fields.get(name)?.type ?? '') ?? new Map()
    selection[name] = child.selectionSet || child.arguments?.length ? selected(child, related, models) : true
  }
  const query_arguments = Object.fromEntries(
    (node.arguments ?? []).map(({ name: { value: name }, value }) => {
      if (FILTERS.has(name)) return [name, values.members(value, fields, false)]
      if (WRITES.has(name)) return [name, values.members(value, fields, true)]
      return [name, plain(value)]
    }),
  )
  return { arguments: query_arguments, selection }
}

/** Values whose types the schema tells. */
class Values {
  /** @param {Models} models */
  constructor(models) {
    this.models = models
  }

  /**
   * An object, or a list of objects, with fields of a model: a filter or what is written. What is no field of it is around
   * fields of it: AND, OR, NOT and the names of compound keys.
   *
   * @param {ValueNode} node
   * @param {Map<string, Field>} fields
   * @param {boolean} writing
   * @returns {unknown}
   */
  members(node, fields, writing) {
    return each(node, (name, value) => {
      const field = fields.get(name)
      if (!field) return this.members(value, fields, writing)
      return field.relation ? this.relation(value, field, writing) : this.scalar(value, field, writing)
    })
  }

  /**
   * @param {ValueNode} node what stands under a relation: operations on it, or a filter of it
   * @param {Field} field
   * @param {boolean} writing
   */
  relation(node, field, writing) {
    const fields = this.models.get(field.type) ?? new Map()
    return each(node, (name, value) => {
      if (writing && RELATION_WRITES.has(name)) {
        return RELATION_WRAPPED.has(name) ? this.wrapped(value, fields) : this.members(value, fields, name === 'create')
      }
      if (!writing && RELATION_FILTERS.has(name)) return this.members(value, fields, false)
      const inner = fields.get(name)
      if (!inner) return this.members(value, fields, writing)
      return inner.relation ? this.relation(value, inner, writing) : this.scalar(value, inner, writing)
    })
  }

  /**
   * @param {ValueNode} node an object, or a list of objects, of where, data, create and update, or of fields themselves
   * @param {Map<string, Field>} fields
   */
  wrapped(node, fields) {
    if (node.kind === Kind.LIST) return node.values.map((value) => this.wrapped(value, fields))
    const names = node.kind === Kind.OBJECT ? node.fields.map(({ name }) => name.value) : []
    if (!names.some((name) => WRITES.has(name))) return this.members(node, fields, true)
    return each(node, (name, value) =>
      name === 'skipDuplicates' ? plain(value) : this.members(value, fields, name !== 'where'),
    )
  }

  /**
   * @param {ValueNode} node a value of the field, or an object of operators on it
   * @param {Field} field
   * @param {boolean} writing
   * @returns {unknown}
   */
  scalar(node, field, writing) {
    const isJson = field.type === 'Json'
    if (node.kind === Kind.OBJECT && !(isJson && writing && !field.list)) {
      return each(node, (name, value) => (OPERATORS.has(name) ? this.scalar(value, field, writing) : plain(value)))
    }
    if (node.kind === Kind.LIST) return node.values.map((value) => this.scalar(value, field, writing))
    if (isJson) return json(node, writing && !field.list)
    // A number of JavaScript's has 53 bits, and the engine cuts fractions off.
    if (node.kind === Kind.INT && field.type === 'BigInt') return node.value
    if (node.kind === Kind.FLOAT && ['Int', 'BigInt', 'Decimal'].includes(field.type)) return node.value
    if (node.kind === Kind.INT && field.type === 'Decimal') return node.value
    return plain(node)
  }
}

/**
 * @param {ValueNode} node
 * @param {(name: string, value: ValueNode) => unknown} translated a member's value
 * @returns {unknown} the object, or the list of objects; anything else as it is
 */
function each(node, translated) {
  if (node.kind === Kind.LIST) return node.values.map((value) => each(value, translated))
  if (node.kind !== Kind.OBJECT) return plain(node)
  return Object.fromEntries(node.fields.map(({ name: { value: name }, value }) => [name, translated(name, value)]))
}

/**
 * @param {ValueNode} node JSON in a string, or which null is meant
 * @param {boolean} nullable whether null means the database's: a column without a value
 */
function json(node, nullable) {
  switch (node.kind) {
    case Kind.STRING:
      return { $type: 'Json', value: checked(node.value) }
    case Kind.ENUM:
      return NULLS.has(node.value)
        ? { $type: 'Enum', value: node.value }
        : refuse('Json is neither a string nor a null')
    case Kind.NULL:
      return nullable ? { $type: 'Enum', value: 'DbNull' } : null
    default:
      return refuse('Json is neither a string nor a null')
  }
}

/** @param {string} text @returns {string} the text, which the engine can read */
function checked(text) {
  try {
    if (isReadable(JSON.parse(text), 0)) return text
  } catch {
    // refused below
  }
  return refuse('A value is not valid JSON')
}

/** @param {unknown} value @param {number} depth */
function isReadable(value, depth) {
  if (typeof value === 'number') return Number.isFinite(value)
  if (typeof value !== 'object' || value === null) return true
  return depth < JSON_DEPTH && Object.values(value).every((member) => isReadable(member, depth + 1))
}

/** @param {ValueNode} node @returns {unknown} */
function plain(node) {
  switch (node.kind) {
    case Kind.NULL:
      return null
    case Kind.INT:
    case Kind.FLOAT:
      return Number(node.value)
    case Kind.STRING:
    case Kind.BOOLEAN:
    case Kind.ENUM:
      return node.value
    case Kind.LIST:
      return node.values.map(plain)
    case Kind.OBJECT:
      return each(node, (_, value) => plain(value))
    default:
      return refuse('Variables are not supported')
  }
}
