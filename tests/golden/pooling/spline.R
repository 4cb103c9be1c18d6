# The effect over age by natural splines with common knots: lm (or glm) in each trial with another
# basis of the same curves (splines::ns), metafor's rma.mv with an unstructured covariance over the
# coefficients. Run: Rscript spline.R > spline.json
suppressMessages({library(metafor); library(splines); library(jsonlite)})
people <- read.csv("interaction_people.csv", colClasses = c(participant_id = "character"))
events <- read.csv("events.csv", colClasses = c(participant_id = "character"))
events <- events[events$arm %in% c("control", "active") & !(events$trial %in% c("CHARLIE", "FOXTROT")), ]
quantiles <- list(`3` = c(.1, .5, .9), `4` = c(.05, .35, .65, .95))

curve <- function(d, count, fit, method) {
  d$treat <- as.numeric(d$arm == "active")
  knots <- round(quantile(d$age_years, quantiles[[count]], names = FALSE))
  inner <- knots[-c(1, length(knots))]; outer <- knots[c(1, length(knots))]
  basis <- function(x) ns(x, knots = inner, Boundary.knots = outer)
  p <- length(inner) + 1
  each <- lapply(split(d, d$trial), function(t) {
    b <- matrix(as.numeric(basis(t$age_years)), nrow(t), p, dimnames = list(NULL, paste0("b", 1:p)))
    m <- fit(cbind(t, b), paste0("b", 1:p))
    at <- paste0("treat:b", 1:p)
    list(b = coef(m)[at], v = vcov(m)[at, at])
  })
  y <- unlist(lapply(each, `[[`, "b")); V <- bldiag(lapply(each, function(e) unname(e$v)))
  term <- factor(rep(1:p, length(each))); trial <- rep(names(each), each = p)
  r <- if (method == "FE") rma.mv(y, V, mods = ~ 0 + term) else
    rma.mv(y, V, mods = ~ 0 + term, random = ~ term | trial, struct = "UN", method = method,
           control = list(optimizer = "optim", optmethod = "BFGS", maxit = 50000, reltol = 1e-15))
  # The scale factor of Jackson & Riley (2014), truncated at 1
  S <- if (method == "FE") V else r$M
  e <- y - model.matrix(~ 0 + term) %*% coef(r)
  q <- as.numeric(t(e) %*% solve(S, e)) / (length(y) - p)
  ages <- c(45, 50, 55, 60, 65, 70); reference <- round(median(d$age_years))
  z <- basis(ages) - basis(rep(reference, length(ages)))
  # Non-linear: what is left of the coefficients beside those of a straight line
  x <- seq(outer[1], outer[2], length.out = 50)
  line <- lm.fit(cbind(1, basis(x)), x)              # coefficients that make a straight line
  straight <- line$coefficients[-1]
  rest <- qr.Q(qr(straight), complete = TRUE)[, -1, drop = FALSE]
  wald <- function(L) { b <- t(L) %*% coef(r); as.numeric(t(b) %*% solve(t(L) %*% vcov(r) %*% L, b)) }
  list(knots = knots, reference = reference, ages = ages, k = length(each),
       estimate = as.numeric(z %*% coef(r)), se = sqrt(diag(z %*% vcov(r) %*% t(z))), q_ratio = q,
       overall = wald(diag(p)), nonlinear = wald(rest), m = p, criterion = if (method == "FE") NA else -2 * as.numeric(logLik(r)))
}
gaussian <- function(d, b) lm(as.formula(paste("lv_ef_percent ~ lv_ef_baseline + treat * (",
                                               paste(b, collapse = "+"), ")")), d)
logit <- function(d, b) glm(as.formula(paste("died ~ treat * (", paste(b, collapse = "+"), ")")),
                            binomial, d, control = glm.control(epsilon = 1e-15, maxit = 200))
out <- list(
  made_by = list(R = R.version.string, metafor = as.character(packageVersion("metafor"))),
  reml_3 = curve(people, "3", gaussian, "REML"), reml_4 = curve(people, "4", gaussian, "REML"),
  ml_3 = curve(people, "3", gaussian, "ML"), fe_3 = curve(people, "3", gaussian, "FE"),
  odds_3 = curve(events, "3", logit, "FE"))
cat(toJSON(out, digits = I(17), auto_unbox = TRUE, pretty = TRUE, na = "null"), "\n")
