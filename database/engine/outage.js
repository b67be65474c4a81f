/**
 * Errors of the connection rather than of a query, by Prisma's codes. The engine has no kind of driver's error for them: they
 * pass through it as PostgreSQL's do, with the code in the message, and are recognised in what it answers.
 */

/**
 * @typedef {import('./connection.js').Target} Target
 * @typedef {Extract<import('@prisma/driver-adapter-utils').Error, { kind: 'Postgres' }>} DriverError
 */

const CARRIED = /(?:message: "|FATAL: )\[(P\d{4})\] ((?:[^"\\]|\\.)*)/

/** @param {string} code @param {string} message @returns {DriverError} */
const outage = (code, message) => ({
  kind: 'Postgres',
  code,
  severity: 'FATAL',
  message: `[${code}] ${message}`,
  detail: undefined,
  column: undefined,
  hint: undefined,
})

/**
 * Why there is no connection.
 *
 * @param {Error & { code?: string }} error pg's
 * @param {Target} target
 * @returns {DriverError}
 */
export function refused(error, { host, port, database, user }) {
  switch (error.code) {
    case '28P01':
    case '28000':
      return outage(
        'P1000',
        `Authentication failed against database server, the provided database credentials for \`${user}\` are not valid.`,
      )
    case '3D000':
      return outage('P1003', `Database \`${database}\` does not exist on the database server at \`${host}:${port}\`.`)
    case '53300':
      return outage('P2037', `Too many database connections opened: FATAL: ${error.message}`)
    default:
      return outage(
        'P1001',
        `Can't reach database server at \`${host}:${port}\`\n\nPlease make sure your database server is running at \`${host}:${port}\`.`,
      )
  }
}

/** @param {number} limit of connections @param {number} timeout_s */
export const exhausted = (limit, timeout_s) =>
  outage(
    'P2024',
    `Timed out fetching a new connection from the connection pool. (Current connection pool timeout: ${timeout_s}, connection limit: ${limit})`,
  )

/** LiteLLM takes an error for one of the connection by words such as "connection closed", which Prisma's message lacks. */
export const closed = () => outage('P1017', 'Server has closed the connection: connection closed.')

/** @param {number} timeout_s */
export const slow = (timeout_s) => outage('P1008', `Operations timed out after ${timeout_s} s: socket timeout.`)

/**
 * @param {import('./engine.js').UserFacingError} error as the engine words it
 * @returns {import('./engine.js').UserFacingError} the same, or the outage that it carries
 */
export function recognise(error) {
  const text = error.error_code === 'P2010' ? error.meta?.message : error.message
  const [, error_code, message] = text?.match(CARRIED) ?? []
  return message ? { is_panic: false, error_code, message: message.replaceAll('\\n', '\n'), meta: {} } : error
}
