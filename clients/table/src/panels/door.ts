// Page layer: the form at which one takes a seat.

import { $ } from "../dom.js";
import { invited, isRoom, remember, remembered, type Seat } from "../seat.js";

const FIRST = ["amber", "ashen", "brass", "crooked", "drowned", "elder", "gilded", "hollow", "ivory", "mossy", "silver", "sunken"];
const SECOND = ["bridge", "cellar", "crypt", "forge", "harbour", "keep", "lantern", "mine", "orchard", "spire", "tavern", "vault"];
const SEATED = "roundtable.seated"; // for this tab: a reload sits down again

interface Fields extends HTMLFormControlsCollection {
  name: HTMLInputElement;
  room: HTMLInputElement;
  role: RadioNodeList;
  token: HTMLInputElement;
}

export class Door {
  private readonly form = $<HTMLFormElement>("join");
  private refreshToken = "";

  constructor(private readonly enter: (seat: Seat) => void) {
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    $("another").addEventListener("click", () => {
      this.fields.room.value = aRoom();
    });
  }

  private get fields(): Fields {
    return this.form.elements as Fields;
  }

  /** Fills in what the link and the last time say; sits down at once after a reload, or by a link with a token. */
  begin(): void {
    const given = invited(location);
    const again = seatedAs();
    const { name, room, role, token } = this.fields;
    name.value = given.name ?? remembered("roundtable.name");
    room.value = given.room ?? "lobby";
    role.value = (again.room === room.value && again.role) || given.role || "player";
    token.value = given.token ?? "";
    this.refreshToken = given.refreshToken ?? "";
    $<HTMLDetailsElement>("with-token").open = Boolean(given.token);
    if (given.token || (again.room === room.value && name.value)) this.submit();
    else if (matchMedia("(hover: hover)").matches) name.focus();
  }

  /** Back at the door, with the reason in words. */
  show(reason = ""): void {
    forget();
    $("door").hidden = false;
    $("refusal").textContent = reason;
    if (reason.includes("token")) $<HTMLDetailsElement>("with-token").open = true;
    this.fields.token.value = "";
  }

  private submit(): void {
    const { name, room, role, token } = this.fields;
    const seat: Seat = {
      name: name.value.trim(), room: room.value.trim(), role: role.value, token: token.value.trim(), refreshToken: this.refreshToken,
    };
    const wrong = !seat.token && !seat.name ? name : !isRoom(seat.room) ? room : null;
    name.setAttribute("aria-invalid", String(wrong === name));
    room.setAttribute("aria-invalid", String(wrong === room));
    if (wrong) {
      $("refusal").textContent = wrong === name ? "Say your name first." : "A room’s name has 1 to 64 letters, digits, _ and -.";
      wrong.focus();
      return;
    }
    $("refusal").textContent = "";
    if (seat.name) remember("roundtable.name", seat.name);
    if (!seat.token) sessionStorage.setItem(SEATED, JSON.stringify({ room: seat.room, role: seat.role }));
    history.replaceState(null, "", `/?room=${encodeURIComponent(seat.room)}`);
    this.enter(seat);
  }
}

function seatedAs(): { room?: string; role?: string } {
  try {
    return JSON.parse(sessionStorage.getItem(SEATED) ?? "{}") as { room?: string; role?: string };
  } catch {
    return {};
  }
}

function forget(): void {
  sessionStorage.removeItem(SEATED);
}

function aRoom(): string {
  const [a, b, c] = crypto.getRandomValues(new Uint32Array(3)) as unknown as [number, number, number];
  return `${FIRST[a % FIRST.length]}-${SECOND[b % SECOND.length]}-${(c % 90) + 10}`;
}
