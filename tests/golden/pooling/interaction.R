# Golden values of within-trial interactions and floating subgroup effects.
# Run: Rscript interaction.R > interaction.json   (writes interaction_people.csv beside it)
suppressMessages({library(metafor); library(lme4); library(pbkrtest); library(jsonlite)})
RNGversion("4.2.0"); set.seed(20241105)

# Nine trials. True interaction -1.2 per 10 years within trials, +2 per 10 years between them.
# CHINA lacks the reference level of ethnicity, NORTH has one level alone.
trials <- data.frame(trial = c("ALTO", "BRIO", "CHINA", "DOLCE", "EST", "FORTE", "GRAVE", "HAUT", "NORTH"),
                     n = c(120, 90, 110, 160, 80, 140, 100, 70, 60), age = c(52, 55, 58, 60, 62, 64, 66, 69, 71),
                     sd = c(5, 7, 6, 4, 8, 6, 5, 7, 6))
groups <- c("white", "black", "south-asian", "chinese"); shift <- c(0, -1, 1.5, .5)
rows <- do.call(rbind, lapply(seq_len(nrow(trials)), function(i) {
  s <- trials[i, ]; n <- s$n; treat <- sample(rep(0:1, length.out = n))
  age <- round(rnorm(n, s$age, 7), 1); sex <- sample(c("male", "female"), n, TRUE, c(.6, .4))
  p <- switch(s$trial, CHINA = c(0, .2, .3, .5), NORTH = c(1, 0, 0, 0), ALTO = c(.6, .4, 0, 0), c(.5, .2, .2, .1))
  eth <- sample(groups, n, TRUE, p); eth[runif(n) < .02] <- NA
  base <- rnorm(n, 40, 8); xc <- (age - mean(age)) / 10
  g <- 3 + rnorm(1, 0, 1) + 2 * (s$age - 62) / 10 + (-1.2 + rnorm(1, 0, .5)) * xc +
    (1 + rnorm(1, 0, .6)) * (sex == "female") + shift[match(ifelse(is.na(eth), "white", eth), groups)]
  data.frame(trial = s$trial, participant_id = sprintf("%s-%03d", s$trial, seq_len(n)),
             arm = ifelse(treat == 1, "active", "control"), age_years = age, sex = sex, ethnicity = eth,
             lv_ef_baseline = base, lv_ef_percent = 10 + .7 * base - 1.5 * xc + g * treat + rnorm(n, 0, s$sd))
}))
write.csv(rows, "interaction_people.csv", row.names = FALSE, quote = FALSE, na = "")
rows <- read.csv("interaction_people.csv", na.strings = "")
rows$treat <- as.numeric(rows$arm == "active"); rows$y <- rows$lv_ef_percent; rows$b <- rows$lv_ef_baseline
rows$x <- rows$age_years / 10
tight <- list(threshold = 1e-12, maxiter = 20000)

# ---- REML of y ~ N(X beta, V0 + sum theta Vd) by Fisher scoring with dense matrices
dense <- function(X, y, Vd, phi, V0 = 0, most = 400) {
  L <- length(Vd); sp <- function(A, B) sum(A * t(B))
  for (it in 1:most) {
    Vi <- solve(V0 + Reduce(`+`, Map(`*`, phi, Vd))); F <- solve(t(X) %*% Vi %*% X)
    P <- Vi - Vi %*% X %*% F %*% t(X) %*% Vi; Py <- as.numeric(P %*% y)
    PV <- lapply(Vd, function(M) P %*% M)
    sc <- sapply(1:L, function(r) -.5 * (sum(diag(PV[[r]])) - sum(Py * (Vd[[r]] %*% Py))))
    I <- outer(1:L, 1:L, Vectorize(function(r, s) .5 * sp(PV[[r]], PV[[s]])))
    on <- phi > 0 | sc > 0  # a variance at its limit of 0 stays there while the slope says so
    new <- phi; if (any(on)) new[on] <- pmax(phi[on] + solve(I[on, on], sc[on]), 0)
    done <- max(abs(new - phi) / (abs(phi) + 1e-6)) < 1e-13; phi <- new; if (done) break
  }
  Vi <- solve(V0 + Reduce(`+`, Map(`*`, phi, Vd))); F <- solve(t(X) %*% Vi %*% X)
  P <- Vi - Vi %*% X %*% F %*% t(X) %*% Vi
  I <- outer(1:L, 1:L, Vectorize(function(r, s) .5 * sp(P %*% Vd[[r]], P %*% Vd[[s]])))
  list(beta = as.numeric(F %*% t(X) %*% Vi %*% y), cov = F, phi = phi, Vi = Vi, W = solve(I), Vd = Vd, X = X)
}
kr <- function(f, j) {
  VX <- f$Vi %*% f$X; F <- f$cov; L <- length(f$Vd); Pm <- lapply(f$Vd, function(M) -t(VX) %*% M %*% VX)
  A <- 0; for (r in 1:L) for (s in 1:L) A <- A + f$W[r, s] *
    (t(VX) %*% f$Vd[[r]] %*% f$Vi %*% f$Vd[[s]] %*% VX - Pm[[r]] %*% F %*% Pm[[s]])
  g <- sapply(Pm, function(M) (F %*% M %*% F)[j, j])
  list(estimate = f$beta[j], kr_se = sqrt((F + 2 * F %*% A %*% F)[j, j]),
       kr_df = 2 * F[j, j]^2 / as.numeric(t(g) %*% f$W %*% g))
}
bdiag <- function(l) { n <- sapply(l, nrow); M <- matrix(0, sum(n), sum(n)); e <- cumsum(n)
  for (i in seq_along(l)) { k <- (e[i] - n[i] + 1):e[i]; M[k, k] <- l[[i]] }; M }

# ---- age: one slope a trial, then rma
age <- do.call(rbind, lapply(unique(rows$trial), function(t) {
  m <- lm(y ~ treat * x + b, rows[rows$trial == t, ]); co <- coef(summary(m))["treat:x", ]
  data.frame(trial = t, estimate = co[[1]], se = co[[2]], df = m$df.residual) }))
pool <- function(test) { m <- suppressWarnings(rma(estimate, sei = se, data = age, test = test, control = tight))
  list(estimate = as.numeric(m$beta), se = m$se, ci_low = m$ci.lb, ci_high = m$ci.ub, p = m$pval, tau2 = m$tau2) }

# ---- one stage, age: lme4 with a common variance; dense with a variance of each trial
rows$xbar <- ave(rows$x, rows$trial); rows$xc <- rows$x - rows$xbar
rows$tx <- rows$treat * rows$xc; rows$ta <- rows$treat * rows$xbar; rows$trial <- factor(rows$trial)
ctrl <- lmerControl(optimizer = "bobyqa", optCtrl = list(maxfun = 1e6, rhoend = 1e-12), calc.derivs = FALSE,
  check.conv.grad = "ignore", check.conv.hess = "ignore", check.conv.singular = "ignore")
m <- lmer(y ~ 0 + trial + trial:b + trial:x + treat + tx + ta + (0 + treat | trial) + (0 + tx | trial), rows,
          control = ctrl)
one <- function(name) { l <- as.numeric(names(fixef(m)) == name); v <- vcovAdj(m)
  list(estimate = fixef(m)[[name]], se = sqrt(vcov(m)[name, name]), kr_se = sqrt(v[name, name]),
       kr_df = Lb_ddf(l, vcov(m), v)) }
vc <- as.data.frame(VarCorr(m))
lmer_age <- list(within = one("tx"), across = one("ta"), treat = one("treat"), tau2 = vc$vcov[1:2], sigma2 = vc$vcov[3],
                 criterion = REMLcrit(m))

# ---- levels: effects of the levels of each trial
levels_of <- function(d, name, all) { l <- all[all %in% d[[name]]]; d <- d[!is.na(d[[name]]), ]
  # fewer than two people of a level in an arm: the level is not used in this trial
  l <- l[sapply(l, function(v) min(table(factor(d$treat[d[[name]] == v], 0:1)))) >= 2]
  d <- d[d[[name]] %in% l, ]; d$g <- factor(d[[name]], l)
  T <- sapply(l, function(v) d$treat * (d$g == v)); colnames(T) <- paste0("T", seq_along(l))
  A <- if (length(l) > 1) model.matrix(~ g + b, d) else model.matrix(~ b, d)
  m <- lm(d$y ~ 0 + A + T); k <- grep("^TT|^T", names(coef(m))); k <- tail(seq_along(coef(m)), length(l))
  list(levels = l, b = as.numeric(coef(m)[k]), V = unname(vcov(m)[k, k, drop = FALSE]), df = m$df.residual, d = d) }
floating <- function(name, all) {
  tr <- lapply(levels(rows$trial), function(t) levels_of(rows[rows$trial == t, ], name, all)); J <- length(all)
  Z <- lapply(tr, function(e) { z <- matrix(0, length(e$levels), J - 1)
    for (i in seq_along(e$levels)) { j <- match(e$levels[i], all); if (j > 1) z[i, j - 1] <- 1 }; z })
  M <- lapply(tr, function(e) if (length(e$levels) > 1) cbind(-1, diag(length(e$levels) - 1)))
  k <- which(sapply(tr, function(e) length(e$levels) > 1))
  y <- unlist(lapply(k, function(i) M[[i]] %*% tr[[i]]$b)); X <- do.call(rbind, lapply(k, function(i) M[[i]] %*% Z[[i]]))
  V0 <- bdiag(lapply(k, function(i) M[[i]] %*% tr[[i]]$V %*% t(M[[i]])))
  f <- dense(X, y, list(bdiag(lapply(k, function(i) .5 * M[[i]] %*% t(M[[i]])))), .5, V0)
  r <- y - X %*% f$beta; df <- length(y) - ncol(X); q <- as.numeric(t(r) %*% f$Vi %*% r) / df
  tau2 <- f$phi; ones <- lapply(tr, function(e) rep(1, length(e$levels)))
  e <- unlist(lapply(seq_along(tr), function(i) tr[[i]]$b - Z[[i]] %*% f$beta))
  W0 <- bdiag(lapply(tr, function(e) e$V + tau2 / 2 * diag(length(e$levels))))
  g <- dense(matrix(1, length(e), 1), e, list(bdiag(lapply(ones, function(o) o %o% o))), 1, W0)
  O <- lapply(seq_along(tr), function(i) solve(tr[[i]]$V + tau2 / 2 * diag(length(ones[[i]])) + g$phi * ones[[i]] %o% ones[[i]]))
  tot <- sum(sapply(O, sum)); theta <- g$beta
  num <- sapply(seq_along(tr), function(i) { yi <- tr[[i]]$b - Z[[i]] %*% f$beta
    sum(O[[i]] %*% yi)^2 / sum(O[[i]]) })
  qm <- max(1, (sum(num) - theta^2 * tot) / (length(tr) - 1))
  s <- Reduce(`+`, lapply(seq_along(tr), function(i) colSums(O[[i]]) %*% Z[[i]]))
  Zall <- rbind(0, diag(J - 1)); A <- Zall - rep(1, J) %*% (s / tot)
  cov <- qm / tot * matrix(1, J, J) + A %*% (f$cov * max(1, q)) %*% t(A)
  list(levels = all, trials = lapply(seq_along(tr), function(i) list(trial = levels(rows$trial)[i],
         levels = I(tr[[i]]$levels), b = I(tr[[i]]$b), se = I(sqrt(diag(tr[[i]]$V))), df = tr[[i]]$df)),
       gamma = I(f$beta), gamma_se = I(sqrt(diag(f$cov))), tau2 = tau2, q = q, df = df, tau2_mean = g$phi,
       beta = as.numeric(theta + Zall %*% f$beta), beta_se = sqrt(diag(cov)), parts = tr)
}
sex <- floating("sex", c("male", "female")); eth <- floating("ethnicity", groups)

# metafor's rma.mv on the trials that have all levels, for the multivariate step alone
full <- Filter(function(e) length(e$levels) == 4, eth$parts)
yv <- unlist(lapply(full, function(e) e$b[-1] - e$b[1])); C <- cbind(-1, diag(3))
Vv <- bdiag(lapply(full, function(e) C %*% e$V %*% t(C)))
dd <- data.frame(y = yv, j = factor(rep(1:3, length(full))), t = rep(seq_along(full), each = 3))
mv <- rma.mv(y, Vv, mods = ~ 0 + j, random = ~ j | t, struct = "CS", rho = .5, data = dd,
             control = list(optimizer = "optim", optmethod = "BFGS", reltol = 1e-15))
mv_trials <- sapply(Filter(function(i) length(eth$parts[[i]]$levels) == 4, seq_along(eth$parts)),
                    function(i) levels(rows$trial)[i])

# ---- one stage, ethnicity: dense, a variance of each trial, no across-trial terms
# (of the first 60 people of CHINA, DOLCE, FORTE and GRAVE, so that the matrices stay small)
small <- c("CHINA", "DOLCE", "FORTE", "GRAVE")
small <- lapply(small, function(t) levels_of(head(rows[rows$trial == t, ], 60), "ethnicity", groups))
d <- do.call(rbind, lapply(small, function(e) e$d)); d$trial <- droplevels(d$trial)
dum <- sapply(groups[-1], function(v) as.numeric(d$ethnicity == v)); ctr <- apply(dum, 2, function(v) v - ave(v, d$trial))
A <- model.matrix(~ 0 + trial + trial:b, d)
for (t in levels(d$trial)) A <- cbind(A, dum * (d$trial == t))
q <- qr(A); A <- A[, q$pivot[seq_len(q$rank)]]; TX <- d$treat * ctr; same <- outer(as.integer(d$trial), as.integer(d$trial), "==")
f <- dense(cbind(A, treat = d$treat, TX), d$y,
  c(list(same * outer(d$treat, d$treat), same * (.5 * (TX %*% t(TX) + rowSums(TX) %o% rowSums(TX)))),
    lapply(levels(d$trial), function(t) diag(as.numeric(d$trial == t)))), c(1, .5, rep(35, nlevels(d$trial))), most = 60)
p <- ncol(A); dense_eth <- list(within = lapply(1:3, function(j) kr(f, p + 1 + j)), treat = kr(f, p + 1), tau2 = f$phi[1:2], variances = f$phi[-(1:2)], n = nrow(d))

eth$parts <- sex$parts <- NULL
cat(toJSON(list(
  made_by = c(list(R = R.version.string), sapply(c("metafor", "lme4", "pbkrtest"),
              function(p) as.character(packageVersion(p)), simplify = FALSE)),
  age = list(trials = age, wald = pool("z"), hksj = pool("knha"), `hksj-truncated` = pool("adhoc")),
  age_one_stage = lmer_age, sex = sex, ethnicity = eth, ethnicity_one_stage = dense_eth,
  rma_mv = list(trials = mv_trials, gamma = as.numeric(mv$beta), se = mv$se, tau2 = mv$tau2)),
  digits = I(17), auto_unbox = TRUE, pretty = TRUE), "\n")
