/** Asks for a token where the service wants one. */
import { useState } from 'preact/hooks'

export function TokenForm({ why, onToken }: { why: string; onToken: (token: string) => void }) {
  const [token, setToken] = useState('')
  const submit = (event: Event) => {
    event.preventDefault()
    if (token.trim() !== '') onToken(token.trim())
  }
  return (
    <main class="door">
      <h1>egress25</h1>
      <p role="status">{why}</p>
      <form onSubmit={submit}>
        <label for="token">Token</label>
        <input
          id="token"
          type="password"
          autocomplete="off"
          spellcheck={false}
          required
          value={token}
          onInput={({ currentTarget }) => setToken(currentTarget.value)}
        />
        <button type="submit">Show the gateway</button>
      </form>
      <p class="hint">
        A viewer's token is enough: <code>egress25 token create</code>. It is kept until this tab is closed.
      </p>
    </main>
  )
}
