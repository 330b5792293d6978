package grid

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// Keywords of well-known text. WKT 1 is OGC 01-009 as GDAL and ESRI write it,
// WKT 2 is ISO 19162:2015 and 2019.
var (
	geographicKeywords = []string{"GEOGCS", "GEOGCRS", "GEOGRAPHICCRS", "GEODCRS", "GEODETICCRS"}
	otherKeywords      = []string{
		"PROJCS", "PROJCRS", "PROJECTEDCRS", "DERIVEDPROJCRS", "COMPD_CS", "COMPOUNDCRS", "GEOCCS",
		"LOCAL_CS", "ENGCRS", "ENGINEERINGCRS",
	}
)

// fromWKT is c with what the outermost system says of itself.
func (c CRS) fromWKT() CRS {
	root, ok := parseWKT(c.text)
	if !ok {
		return c
	}
	geographic := slices.Contains(geographicKeywords, root.keyword)
	if !geographic && !slices.Contains(otherKeywords, root.keyword) {
		return c // BOUNDCRS and what we do not know
	}
	c.name = root.text(0)
	c.geographic = geographic && root.inDegrees()
	if id := root.child("ID", "AUTHORITY"); id != nil {
		c.id = makeID(id.text(0), id.text(1))
	} else if c.geographic && root.isESRIWGS84() {
		c.id = "EPSG:4326"
	}
	return c
}

// inDegrees reports whether a geographic system has two axes in degrees: a unit
// of its own in WKT 1, one for all axes or one for each in WKT 2. A geocentric
// one has metres, one with heights an axis of them.
func (n *wktNode) inDegrees() bool {
	units := n.children("UNIT", "ANGLEUNIT")
	for _, axis := range n.children("AXIS") {
		units = append(units, axis.children("UNIT", "ANGLEUNIT", "LENGTHUNIT")...)
	}
	for _, unit := range units {
		// 0.0174532925199433 radians, to the digits that are written.
		if size, err := strconv.ParseFloat(unit.text(1), 64); err != nil || math.Abs(size-math.Pi/180) > 1e-12 {
			return false
		}
	}
	return len(units) > 0 && n.child("LENGTHUNIT") == nil
}

// isESRIWGS84 recognises the text that ESRI's tools write for WGS 84, which
// names no authority. Name, datum, ellipsoid and prime meridian must all agree.
func (n *wktNode) isESRIWGS84() bool {
	datum, prime := n.child("DATUM"), n.child("PRIMEM")
	if n.text(0) != "GCS_WGS_1984" || datum == nil || datum.text(0) != "D_WGS_1984" || prime == nil {
		return false
	}
	spheroid := datum.child("SPHEROID", "ELLIPSOID")
	return spheroid != nil && datum.child("TOWGS84") == nil &&
		spheroid.number(1) == 6378137 && spheroid.number(2) == 298.257223563 && prime.number(1) == 0
}

// wktNode is KEYWORD[argument, …]: arguments are texts (strings and numbers as
// written) or nodes.
type wktNode struct {
	keyword string
	args    []wktArg
}

type wktArg struct {
	text string
	node *wktNode
}

func (n *wktNode) children(keywords ...string) []*wktNode {
	var found []*wktNode
	for _, a := range n.args {
		if a.node != nil && slices.Contains(keywords, a.node.keyword) {
			found = append(found, a.node)
		}
	}
	return found
}

func (n *wktNode) child(keywords ...string) *wktNode {
	if found := n.children(keywords...); len(found) > 0 {
		return found[0]
	}
	return nil
}

// text is argument i as text; empty if there is none.
func (n *wktNode) text(i int) string {
	if i < len(n.args) {
		return n.args[i].text
	}
	return ""
}

// number is argument i as a number, NaN if it is none.
func (n *wktNode) number(i int) float64 {
	v, err := strconv.ParseFloat(n.text(i), 64)
	if err != nil {
		return math.NaN()
	}
	return v
}

// maxWKTDepth is far beyond what a definition needs.
const maxWKTDepth = 32

// parseWKT reads one node that is the whole text; false if the text is not one.
func parseWKT(text string) (*wktNode, bool) {
	p := wktParser{rest: text}
	node := p.node(0)
	p.skipSpace()
	return node, node != nil && p.rest == ""
}

type wktParser struct {
	rest string
}

func (p *wktParser) skipSpace() { p.rest = strings.TrimLeft(p.rest, " \t\r\n") }

// take consumes one of the characters, and gives it; 0 if none is next.
func (p *wktParser) take(chars string) byte {
	p.skipSpace()
	if p.rest != "" && strings.IndexByte(chars, p.rest[0]) >= 0 {
		c := p.rest[0]
		p.rest = p.rest[1:]
		return c
	}
	return 0
}

// word consumes a keyword or a number.
func (p *wktParser) word() string {
	p.skipSpace()
	end := strings.IndexAny(p.rest, "[](), \t\r\n\"")
	if end < 0 {
		end = len(p.rest)
	}
	word := p.rest[:end]
	p.rest = p.rest[end:]
	return word
}

// node consumes KEYWORD[…] or KEYWORD(…); nil if malformed.
func (p *wktParser) node(depth int) *wktNode {
	keyword := p.word()
	if keyword == "" || depth > maxWKTDepth {
		return nil
	}
	return p.arguments(keyword, depth)
}

func (p *wktParser) arguments(keyword string, depth int) *wktNode {
	closing := "]"
	switch p.take("[(") {
	case 0:
		return nil
	case '(':
		closing = ")"
	}
	n := &wktNode{keyword: strings.ToUpper(keyword)}
	for {
		arg, ok := p.argument(depth)
		if !ok {
			return nil
		}
		n.args = append(n.args, arg)
		if p.take(closing) != 0 {
			return n
		}
		if p.take(",") == 0 {
			return nil
		}
	}
}

func (p *wktParser) argument(depth int) (wktArg, bool) {
	if p.take(`"`) != 0 {
		return p.quoted()
	}
	word := p.word()
	if word == "" || depth >= maxWKTDepth {
		return wktArg{}, false
	}
	p.skipSpace()
	if p.rest == "" || (p.rest[0] != '[' && p.rest[0] != '(') {
		return wktArg{text: word}, true
	}
	node := p.arguments(word, depth+1)
	return wktArg{node: node}, node != nil
}

// quoted consumes a string after its first quote. A doubled quote is a quote.
func (p *wktParser) quoted() (wktArg, bool) {
	var b strings.Builder
	for {
		end := strings.IndexByte(p.rest, '"')
		if end < 0 {
			return wktArg{}, false
		}
		b.WriteString(p.rest[:end])
		p.rest = p.rest[end+1:]
		if !strings.HasPrefix(p.rest, `"`) {
			return wktArg{text: b.String()}, true
		}
		b.WriteByte('"')
		p.rest = p.rest[1:]
	}
}
